"""CoDi: modalities composed.

    context        c = Σ_k w_k C_k(x_k) / Σ_k w_k                                (one token per prompt)
    environment    e_A = Σ_B W[A, B] V_B(z_B, t_B)                                (pooled tokens; maps: concatenated)
    prediction     ε_A(z_A, t_A, c, e_A)

The connectivity W [to, from] says which output attends to which. In the paper A attends to all others. In the public
release every output attends to its own token (`compat: release`), so that no information passes between the outputs.
An output that is generated alone attends to nothing. W is data: one program serves every subset of outputs.

The mean of several tokens dilutes what one of them knows by what the others do not know yet. V that is anchored to an
embedding is its conditional mean, E[c̄ | z_t], whose squared norm says how much of c̄ is known: it is 0 where nothing is.
So it can be the weight,

    e_A = Σ_B W[A, B] |V_B|² V_B / Σ_B W[A, B] |V_B|²                            (environment `by_norm`)

which is V_B for a single partner. The norm says how much is known and not of what: an image that is almost finished
dilutes what a caption tells a video of its motion. So a modality that tells of more than others do may have a larger W,

    W[A, B] = w_B / Σ_C w_C   over the other outputs C,   w = 1 if not given      (`environment_weights`)

Both are settings of sampling (`GenerateConfig`), no network is trained for them, and neither the paper nor the release
has them.
"""

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any, Literal, ParamSpec

import jax
import jax.numpy as jnp
import numpy as np

from codi_jax.config import ConfigError, checked_options, config_class, did_you_mean, from_dict, revalued
from codi_jax.diffusion import schedules
from codi_jax.modalities import MODALITIES, Modality, ModelDims, Variables
from codi_jax.modalities.base import SIZES
from codi_jax.nn.attention_kernels import Kernel
from codi_jax.nn.remat import Remat, check
from codi_jax.nn.timing import seconds
from codi_jax.registry import Registry
from codi_jax.rng import fold
from codi_jax.types import MASKED, Array, TimedTokens, Tokens


@config_class()
class CoDiConfig:
    """`config.model`.

    Attributes:
      modalities: name of a modality -> its config, of that modality's `Config` class or a mapping with its fields.
      width: D, width of the prompt space.
      environment_width: E, width of the environment space; 0 for D.
      compat: `true` for the paper's model, `release` for the aliased skip and own-token attention of the public code.
      prediction: prediction kind of the denoisers: eps, v, x0 or flow.
      schedule: name of the noise schedule, of `diffusion.schedules.SCHEDULES`. `rectified_flow` is the straight path,
        whose velocity is the prediction `flow`.
      null: the null prompt: `zero` (the mean of the centred prompts) or `empty` (each encoder's embedding of empty
        media, as in the release).
      environment_tokens: `pooled`, one token per modality, or `map`.
      dtype: compute type.
      attention: what computes attention in U-Nets and X: `auto`, by hardware and sizes; or `xla`, `chunked`, `cudnn`,
        `splash`, see `nn.attention_kernels`.
      remat: what U-Nets, V, X and prompt towers keep for the backward pass, which computes the rest again: `none`
        computes nothing again; `blocks`, `dots`, `offload`, or a tuple of names, see `nn.remat`.
    """

    modalities: dict[str, Any]
    width: int
    environment_width: int = 0
    compat: Literal["true", "release"] = "true"
    prediction: Literal["eps", "v", "x0", "flow"] = "eps"
    schedule: Literal["scaled_linear", "cosine", "rectified_flow"] = "scaled_linear"
    null: Literal["zero", "empty"] = "zero"
    environment_tokens: Literal["pooled", "map"] = "pooled"
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    attention: Kernel = "auto"
    remat: Remat = revalued({True: "blocks", False: "none"}, default="none")

    def __post_init__(self):
        checked = {
            name: from_dict(MODALITIES[name].Config, tree, f"model.modalities.{name}") if name in MODALITIES else tree
            for name, tree in self.modalities.items()  # others may be those of plugins that are not imported yet
        }
        object.__setattr__(self, "modalities", checked)
        check(self.remat)


P = ParamSpec("P")
PRESETS: Registry[Callable[..., CoDiConfig]] = Registry(
    "preset", {name: f"codi_jax.presets.{name}" for name in ("codi", "digit_world", "demo")}
)


def register(name: str) -> Callable[[Callable[P, CoDiConfig]], Callable[P, CoDiConfig]]:
    """Decorator of a function that makes the config of a model from keyword options; it checks them by their types.

    Raises:
      ValueError: another preset has the name.
    """

    def add(make: Callable[P, CoDiConfig]) -> Callable[P, CoDiConfig]:
        checked = checked_options(make)
        PRESETS.add(name, checked)
        return checked

    return add


class CoDi:
    """The model as pure functions of `variables`. It holds modules and sizes, and no arrays but those of the schedule.

    Raises:
      ConfigError: an unknown modality, an invalid config, or modalities that share a component of different sizes.
    """

    def __init__(self, config: CoDiConfig):
        self.schedule = schedules.make(config.schedule)
        environment_width = config.environment_width or config.width
        dims = ModelDims(config.width, environment_width, config.compat, config.dtype, config.attention, config.remat)
        self.modalities: dict[str, Modality] = {}
        self._shapes: dict[str, dict] = {}
        for name in config.modalities:
            if name not in MODALITIES:
                hint = did_you_mean(name, MODALITIES)
                raise ConfigError(
                    f"config.model.modalities.{name}: unknown modality{hint}; known: {', '.join(MODALITIES)}"
                )
        for name in MODALITIES:  # in the order of the registry, not of the config
            if name in config.modalities:
                cls = MODALITIES[name]
                tree = from_dict(cls.Config, config.modalities[name], f"model.modalities.{name}")
                self.modalities[name] = cls(tree, dims)
        self.config = dataclasses.replace(config, modalities={name: m.config for name, m in self.modalities.items()})
        self._check_shared()

    @classmethod
    def from_preset(cls, preset: str, **options: Any) -> "CoDi":
        """Builds a model of known sizes.

        Args:
          preset: a name of `PRESETS`: "codi", the paper's model and the release's; "digit_world", the packaged model's;
            or "demo", the one that `make demo` trains.
          **options: of the preset, such as compat="release" of "codi"; see its function.

        Raises:
          ConfigError: an unknown preset or option, or an invalid value.
        """
        make = PRESETS.find(preset)
        try:
            return cls(make(**options))
        except ConfigError as error:
            raise ConfigError(f"preset {preset}: {error}") from None

    @classmethod
    def from_config(cls, tree: Any) -> "CoDi":
        """Builds the model from `config.model`."""
        return cls(from_dict(CoDiConfig, tree, "model"))

    def __getitem__(self, name: str) -> Modality:
        if name not in self.modalities:
            hint = did_you_mean(name, self.modalities)
            raise ConfigError(f"unknown modality {name!r}{hint}; this model has {', '.join(self.modalities)}")
        return self.modalities[name]

    def order(self, names: Iterable[str]) -> tuple[str, ...]:
        """The names, in the model's order.

        Raises:
          ConfigError: an unknown or a repeated name.
        """
        names = list(names)
        for name in names:
            if names.count(name) > 1:
                raise ConfigError(f"modality {name!r} is named twice")
            self[name]
        return tuple(name for name in self.modalities if name in names)

    def component_names(self) -> dict[str, tuple[str, str]]:
        """Component -> (modality, role) of the last modality that refers to it.

        Where image and video share a network, video is the last, and tracing with video creates all parameters.
        """
        return {
            c: (name, role) for name, modality in self.modalities.items() for role, c in modality.components.items()
        }

    def components_of(self, roles: Iterable[str], names: Iterable[str]) -> tuple[str, ...]:
        """The components that have these roles in these modalities, each once; not all modalities have all roles."""
        roles = tuple(roles)
        found = (self[name].components.get(role) for name in names for role in roles)
        return tuple(dict.fromkeys(component for component in found if component is not None))

    def _check_shared(self) -> None:
        """Raises ConfigError if modalities that share a component differ in its sizes."""
        for component, (name, role) in self.component_names().items():
            field = SIZES.get(role, role)
            for other, modality in self.modalities.items():
                if modality.components.get(role) != component:
                    continue
                if getattr(modality.config, field) != getattr(self.modalities[name].config, field):
                    raise ConfigError(
                        f"config.model.modalities: {other} and {name} share {component}, but differ in their {field}"
                    )

    def init(self, key: jax.Array, components: Sequence[str] | None = None) -> dict[str, dict]:
        """Initialises the named components (all if None), each with a key folded by its name.

        Prompt encoders share one key, so that parameters of the same path and shape in two towers (the last layers and
        the projection) start equal. Towers with different initialisations leave a gap between modalities (Liang et
        al., arXiv 2203.02053) and agree less on combinations that they were not trained on.

        Returns:
          {component: parameters}.
        """
        params = {}
        for component, (name, role) in self.component_names().items():
            if components is not None and component not in components:
                continue
            params[component] = self.modalities[name].init(role, fold(key, role if role == "prompt" else component))
        return params

    def shapes(self, component: str) -> dict:
        """The parameters of a component as ShapeDtypeStructs; traced once and kept."""
        if component not in self._shapes:
            make = partial(self.init, components=(component,))
            self._shapes[component] = jax.eval_shape(make, jax.random.key(0))[component]
        return self._shapes[component]

    def default_constants(self) -> dict[str, dict]:
        """Constants of all components before any statistics, see `Modality.default_constants`."""
        out = {}
        for modality in self.modalities.values():
            out.update(modality.default_constants())
        return out

    # Prompts

    def null_prompts(
        self,
        variables: Variables,
        names: Iterable[str],
        batch: int,
        prompt: Callable[[str, Variables, Any], Array] | None = None,
    ) -> dict[str, Array]:
        """Null prompts of the named modalities, each [B, D].

        Zero, which is the mean of the centred prompts; or, as in the release, each encoder's embedding of empty media.

        Args:
          variables: parameters and constants of the prompt encoders; unused if the null prompt is zero.
          names: modalities.
          batch: B.
          prompt: (name, variables, media) -> prompt tokens, a compiled `Modality.prompt`; None calls it uncompiled.
        """
        if self.config.null == "zero":
            return {name: jnp.zeros((batch, self.config.width)) for name in names}
        prompt = prompt or (lambda name, variables, media: self[name].prompt(variables, media))
        return {name: prompt(name, variables, self[name].empty(batch)) for name in names}

    def shares(self, names: Iterable[str], weights: Mapping[str, Any] | None, batch: int) -> np.ndarray:
        """Mix weights normalised to a sum of 1.

        Args:
          names: modalities of the K prompts.
          weights: by modality, scalars or [B]; 1 for those not given.
          batch: B.

        Returns:
          float32 [K, B]; [0, B] without prompts.

        Raises:
          ConfigError: a negative or non-finite weight, or weights that sum to 0.
        """
        names = tuple(names)
        mix = [1.0 if weights is None else weights.get(name, 1.0) for name in names]
        share = np.array([np.broadcast_to(np.asarray(w, np.float32), (batch,)) for w in mix]).reshape(-1, batch)
        invalid = ~(np.isfinite(share) & (share >= 0)).all(0) | ~(share.sum(0) > 0)
        if names and invalid.any():
            first = ", ".join(f"{name}={w:g}" for name, w in zip(names, share[:, invalid.argmax()], strict=True))
            raise ConfigError(f"mix weights must be finite and >= 0 with a positive sum, got {first}")
        return share / share.sum(0) if names else share

    def context(self, prompts: Mapping[str, Array], weights: Mapping[str, Any] | None = None) -> Tokens:
        """Mixes the prompts of different modalities into one context.

        One token per prompt: their convex combination, not re-normalised, as in the release. More tokens: concatenated,
        with the logarithms of the weights as a bias on the attention scores.

        Args:
          prompts: modality -> prompt tokens [B, D] or [B, L, D].
          weights: mix weights by modality, scalars or [B]; 1 for those not given.

        Raises:
          ConfigError: a negative or non-finite weight, or weights that sum to 0.
        """
        values = list(prompts.values())
        share = self.shares(prompts, weights, values[0].shape[0])
        if all(v.ndim == 2 for v in values):
            mixed = jnp.asarray(sum(w[:, None] * v for w, v in zip(share, values, strict=True)))
            return Tokens.of(mixed[:, None])
        values = [v[:, None] if v.ndim == 2 else v for v in values]
        log = np.where(share > 0, np.log(np.maximum(share, np.finfo(np.float32).tiny)), MASKED)
        bias = [jnp.broadcast_to(w[:, None], v.shape[:2]) for w, v in zip(log, values, strict=True)]
        return Tokens(jnp.concatenate(values, 1), jnp.concatenate(bias, 1))

    # Joint generation

    def connectivity(self, outputs: Sequence[str], weights: Mapping[str, float] | None = None) -> np.ndarray:
        """W [M to, M from] over all modalities, in the model's order; 0 in rows and columns of absent ones.

        Args:
          outputs: that are present.
          weights: modality -> w, how much it counts for the others; 1 for those not given. Not read in the release.
        """
        present = np.array([name in outputs for name in self.modalities], np.float32)
        count = present.sum()
        if count < 2:
            return np.zeros((present.size, present.size), np.float32)
        if self.config.compat == "release":
            return np.diag(present)
        counts = present * np.array([(weights or {}).get(name, 1.0) for name in self.modalities], np.float32)
        rows = np.outer(present, counts) * (1 - np.eye(present.size, dtype=np.float32))
        return rows / np.where(present > 0, rows.sum(1), 1)[:, None]

    def environment(self, tokens: Mapping[str, Array], weights: Array, by_norm: bool = False) -> tuple[Tokens, Array]:
        """The environment of one output.

        Args:
          tokens: modality -> V(z_t, t) [B, K, E], of all modalities; those of absent ones may be any finite numbers.
          weights: [M], the output's row of W.
          by_norm: whether tokens count by their squared norms, too, see the module's docstring.

        Returns:
          Environment tokens and the gate [B] on the output of X: 0 if the whole row is zero, else 1.
        """
        batch = tokens[next(iter(self.modalities))].shape[0]
        gate = jnp.broadcast_to((weights.sum() > 0).astype(jnp.float32), (batch,))
        if by_norm:
            known = jnp.stack([jnp.square(tokens[name].astype(jnp.float32)).mean((1, 2)) for name in self.modalities])
            weighted = weights[:, None] * (known + 1e-6)  # equal if all tokens are 0
            weights = weights.sum() * weighted / jnp.maximum(weighted.sum(0), 1e-30)
        return self.mix_environment([(name, tokens[name]) for name in self.modalities], weights), gate

    def mix_environment(self, tokens: Sequence[tuple[str, Array]], weights: Array, timed: bool = True) -> Tokens:
        """One environment of several: the weighted sum of pooled tokens; maps concatenated, with biases log w.

        Tokens with a time are concatenated, too, as `timed`; None if there are none.

        Args:
          tokens: n modalities and their V [B, K, E]; of maps, K may differ.
          weights: [n], or [n, B] for weights of each sample.
          timed: whether V has made tokens with a time, see `Modality.environment_tokens`.
        """
        counts = [self[name].timed_tokens if timed else 0 for name, _ in tokens]
        parts = [jnp.split(v, [v.shape[1] - count], axis=1) for (_, v), count in zip(tokens, counts, strict=True)]
        weights = weights.reshape(len(tokens), -1, 1)  # [n, 1 or B, 1]

        def bias(of: Sequence[Array]) -> Array:
            biases = jnp.where(weights > 0, jnp.log(jnp.maximum(weights, 1e-30)), MASKED)
            return jnp.concatenate([jnp.broadcast_to(b, v.shape[:2]) for b, v in zip(biases, of, strict=True)], 1)

        (values, placed), with_time = zip(*parts, strict=True), None
        if any(counts):
            lasts = [self[name].duration for name, _ in tokens]
            times = jnp.concatenate([seconds(last, v.shape[1]) for last, v in zip(lasts, placed, strict=True)])
            joined = jnp.concatenate(placed, 1)
            with_time = TimedTokens(joined, bias(placed), jnp.broadcast_to(times, joined.shape[:2]))
        if self.config.environment_tokens == "pooled":
            mixed = Tokens.of(jnp.asarray(sum(w[..., None] * v for w, v in zip(weights, values, strict=True))))
            return dataclasses.replace(mixed, timed=with_time)
        return Tokens(jnp.concatenate(values, 1), bias(values), with_time)

    def zero_environment_tokens(self, name: str, batch: int) -> Array:
        """Zeros in the shape of V's tokens [B, K, E], for an absent modality."""
        modality = self.modalities[name]
        shape = jax.eval_shape(
            lambda: modality.environment.init_with_output(
                jax.random.key(0),
                jnp.zeros((batch, *modality.latent_shape)),
                jnp.zeros((batch, 4 * modality.denoiser_config.channels)),
            )[0]
        )
        return jnp.zeros((batch, shape.shape[1] + modality.timed_tokens, shape.shape[2]), shape.dtype)
