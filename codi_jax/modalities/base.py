"""The interface of a modality.

A modality refers to components by role: a codec, a prompt encoder C, a denoiser ε, an environment encoder V and the
cross-modal attention X. Two modalities may refer to the same component. Everything here is a pure function of
`variables = {"params": {component: ...}, "constants": {component: ...}}`. Constants are never trained: the latent
statistics of a codec, and the centre and gain of a prompt encoder,

    z = (codec(x) - shift) · scale,        c = (C(x)/‖C(x)‖ - centre) · gain.

A raw value is one item as it is read from a file and written to one (a string, an array of pixels or samples). What a
user gives and gets has other types, too (`raw_from_user`, `user_from_raw`). Media is what the networks read: a pytree
of arrays with a leading batch dimension.
"""

import abc
import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Generic, TypeVar

import jax
import jax.numpy as jnp
import numpy as np

from codi_jax.condition import Condition
from codi_jax.config import ConfigError
from codi_jax.modalities.config import ModalityConfig
from codi_jax.nn.attention_kernels import Kernel
from codi_jax.nn.calls import apply, init
from codi_jax.nn.compute import Compute
from codi_jax.nn.config import TimingConfig
from codi_jax.nn.denoiser import Denoiser
from codi_jax.nn.environment import EnvironmentEncoder
from codi_jax.nn.remat import Remat, offloaded
from codi_jax.registry import Registry
from codi_jax.types import Array, Params, PyTree, TimedTokens, Tokens

Variables = dict[str, dict[str, Any]]
TIMING = "timing"  # the role of attention in time and its encoder
PARTS = "parts"  # the role of a second prompt encoder, of parts of values (`objectives.parts`)
SIZES = {"cross": "denoiser", PARTS: "prompt"}  # role -> the field of a modality's config with its sizes, if another
ROLES = ("codec", "prompt", "denoiser", "environment", "cross")  # required of every modality; one may have more


@dataclasses.dataclass(frozen=True)
class ModelDims:
    """Sizes and options common to all modalities of one model.

    Attributes:
      width: D, width of the prompt space.
      environment_width: E, width of the environment space.
      compat: `true` for CoDi as the paper defines it, `release` for the public code (aliased last skip).
      dtype: compute type; parameters are float32.
      attention: what computes attention, see `nn.attention.attend`.
      remat: what is kept for the backward pass, see `nn.remat`.
    """

    width: int
    environment_width: int
    compat: str = "true"
    dtype: str = "float32"
    attention: Kernel = "auto"
    remat: Remat = "none"


ConfigT = TypeVar("ConfigT", bound=ModalityConfig)


class Modality(abc.ABC, Generic[ConfigT]):
    """One modality: its media, components and files. Subclasses set the class attributes and build the modules."""

    Config: type  # ConfigT, a dataclass
    name: str
    suffix: str  # of the files it writes
    components: Mapping[str, str]  # role -> component name
    latent_shape: tuple[int, ...]  # without the batch
    sampled_posterior = True  # whether a latent is a sample of its posterior, or its mean
    completes = False  # whether a value can be kept as the beginning of the output, see `beginnings`
    part_axes: tuple[int, ...] = ()  # axes of the latent along which parts of it are kept, see `hide`

    def __init__(self, config: ConfigT, dims: ModelDims):
        """Renames components of the class.

        Args:
          config: of this modality.
          dims: sizes and options of the model.

        Raises:
          ConfigError: an unknown role in `config.components`.
        """
        self.timing_config: TimingConfig | None = getattr(config, "timing", None)
        optional = {TIMING: self.timing_config is not None, PARTS: getattr(config, "reads_parts", False)}
        self.components = {**self.components, **{r: f"{self.name}_{r}" for r, has in optional.items() if has}}
        if unknown := [role for role in config.components if role not in self.components]:
            raise ConfigError(
                f"config.model.modalities.{self.name}.components: no role {', '.join(unknown)}; "
                f"there are {', '.join(self.components)}"
            )
        self.config, self.dims = config, dims
        self.components = {**self.components, **config.components}
        self.denoiser_config, self.environment_config = config.denoiser, config.environment
        self.dtype = jnp.dtype(dims.dtype)

    def _build_denoiser(self) -> None:
        compute = Compute(self.dtype, self.dims.attention, self.dims.remat)
        self.denoiser = Denoiser(
            self.denoiser_config,
            self.dims.environment_width,
            compute,
            alias_skip=self.dims.compat == "release",
            timing=self.timing_config,
            duration=self.duration,
        )
        self.environment = EnvironmentEncoder(self.environment_config, compute)
        if (timing := self.timing_config) is not None:
            levels = len(self.denoiser_config.multipliers)
            self._require(
                len(timing.levels) == levels, f".timing.levels: {len(timing.levels)}, but the denoiser has {levels}"
            )
            self._require(
                timing.encoder.width == (width := self.dims.environment_width),
                f".timing.encoder.width: {timing.encoder.width}, but environment tokens have {width}",
            )
            self.timing = EnvironmentEncoder(timing.encoder, compute)

    @property
    def duration(self) -> float:
        """Seconds of an output; 0 of a modality without a time."""
        return 0.0

    @property
    def timed_tokens(self) -> int:
        """T, how many tokens with a time V makes; 0 for a modality without attention in time."""
        if (timing := self.timing_config) is None:
            return 0
        along = self.latent_shape[0]
        return along if len(self.latent_shape) == 4 else -(-along // 2 ** (len(timing.encoder.multipliers) - 1))

    def _unexpected(self, value: Any, expected: str) -> ConfigError:
        """The error about a value of a user that is not what `raw_from_user` takes."""
        got = type(value).__name__
        if isinstance(value, np.ndarray):
            got = f"{value.dtype} {list(value.shape)}"
        hint = "; a batch is a list" if isinstance(value, tuple) else ""
        return ConfigError(f"{self.name}: expected {expected}, got {got}{hint}")

    def _require(self, condition: bool, message: str) -> None:
        """Raises ConfigError unless the condition holds; `message` is ".field: error" in this modality's config."""
        if not condition:
            raise ConfigError(f"config.model.modalities.{self.name}{message}")

    # To be defined by subclasses.

    @abc.abstractmethod
    def prepare(self, samples: Mapping[str, Any]) -> PyTree:
        """Converts a batch of a source, {modality: stacked samples}, to media on the host."""

    @abc.abstractmethod
    def example(self, batch: int) -> PyTree:
        """Media of zeros, to trace with."""

    @abc.abstractmethod
    def encode_moments(self, params: Mapping, media: PyTree) -> tuple[Array, Array]:
        """Posterior mean and log-variance of the codec, not normalised, each [B, *latent_shape]."""

    @abc.abstractmethod
    def decode(self, params: Mapping, latent: Array) -> PyTree:
        """Decodes a latent [B, *latent_shape] that is not normalised to the input of `postprocess`, on the device."""

    @abc.abstractmethod
    def reconstruction(
        self, params: Mapping, media: PyTree, latent: Array, key: jax.Array
    ) -> tuple[Array, dict[str, Array]]:
        """Reconstruction loss of the codec per sample [B], and metrics, from a latent sampled from the posterior."""

    @abc.abstractmethod
    def embed(self, params: Mapping, media: PyTree, untruncated: bool = False) -> Array:
        """Prompt embedding C(x) [B, D], of unit norm.

        Args:
          params: parameters of the prompt encoder.
          media: the prompts.
          untruncated: embed the whole target where the media has a shorter prompt for it.
        """

    @abc.abstractmethod
    def empty(self, batch: int) -> PyTree:
        """Empty media (an empty caption, mid-grey, silence), for the null prompt of the release."""

    @abc.abstractmethod
    def postprocess(self, decoded: PyTree) -> list[Any]:
        """Converts decoded arrays [B, ...] on the host to B raw values."""

    @abc.abstractmethod
    def raw_from_user(self, value: Any) -> Any:
        """Converts one value that a user gives to a raw value.

        Every modality takes a string, which is all that a command line has: a text, or the path of a file. A modality
        of files takes a path and the contents of a file in bytes, too.

        Raises:
          ConfigError: a value of another type or shape, an empty text, or a file that cannot be read.
        """

    @abc.abstractmethod
    def user_from_raw(self, value: Any) -> Any:
        """Converts a raw value to the type in which a user gets it; `raw_from_user` converts it back."""

    @abc.abstractmethod
    def write(self, value: Any, path: Path) -> None:
        """Writes one raw value to a file."""

    @abc.abstractmethod
    def preprocess(self, values: Sequence[Any]) -> PyTree:
        """Converts raw values to a batch of media."""

    @abc.abstractmethod
    def raw_from_batch(self, samples: Mapping[str, Any]) -> list[Any]:
        """Converts a batch of a source, {modality: stacked samples}, to raw values; captions are not truncated."""

    @abc.abstractmethod
    def html(self, value: Any) -> str:
        """One raw value as a self-contained HTML element."""

    @abc.abstractmethod
    def preview(self, values: Sequence[Any]) -> str | np.ndarray:
        """Raw values for a training log: a text, or uint8 pixels [H, W, 3]."""

    @abc.abstractmethod
    def ignored(self, values: Sequence[Any]) -> tuple[str, ...]:
        """Lines for the user, each about something in these prompts that the prompt encoder does not read."""

    @property
    @abc.abstractmethod
    def value_format(self) -> dict[str, Any]:
        """Sizes and rates of raw values that this model generates, by name; {} if the modality has none."""

    @abc.abstractmethod
    def codec_input(self, media: PyTree) -> PyTree:
        """The part of media that the codec encodes: one array [B, ...] except for text."""

    @abc.abstractmethod
    def decode_latent(self, variables: Variables, z: Array) -> PyTree:
        """Decodes a normalised latent z [B, *latent_shape] to the input of `postprocess`; see `decode_by_codec`."""

    # Common to all modalities.

    @property
    @abc.abstractmethod
    def initialisers(self) -> Mapping[str, Callable[[jax.Array], Params]]:
        """Role -> function of a key that initialises that component; `init` has the roles not in here."""

    def init(self, role: str, key: jax.Array) -> Params:
        """Initialises the component of one role. X is traced with environment tokens, without which it has none."""
        role = "prompt" if role == PARTS else role
        if role in self.initialisers:
            return self.initialisers[role](key)
        z = jnp.zeros((1, *self.latent_shape))
        if role == "environment":
            return init(
                self.environment, jax.random.fold_in(key, 1), z, jnp.zeros((1, 4 * self.denoiser_config.channels))
            )
        inputs = (z, jnp.zeros((1,), jnp.int32), Tokens.of(jnp.zeros((1, 1, self.dims.width))))
        if role == TIMING:
            return self._init_timing(key, inputs)
        if role == "denoiser":
            return init(self.denoiser, key, *inputs)["unet"]
        environment = Tokens.of(jnp.zeros((1, 1, self.dims.environment_width)))
        return init(self.denoiser, key, *inputs, environment, jnp.ones((1,)))["cross"]

    def _init_timing(self, key: jax.Array, inputs: tuple[Array, Array, Tokens]) -> Params:
        """Initialises the timing encoder and attention in time, which is traced with tokens."""
        z = inputs[0]
        emb = jnp.zeros((1, 4 * self.denoiser_config.channels))
        width, count = self.timing.config.width, self.timed_tokens
        zeros = jnp.zeros((1, count))
        timed = TimedTokens(jnp.zeros((1, count, width)), zeros, zeros)
        environment = Tokens(jnp.zeros((1, 1, self.dims.environment_width)), jnp.zeros((1, 1)), timed)
        own, other = jax.random.split(key)
        return {
            "encoder": init(self.timing, own, z, emb),
            "attention": init(self.denoiser, other, *inputs, environment, jnp.ones((1,)))["timed"],
        }

    def kept(self, condition: Condition, value: Any) -> np.ndarray:
        """Which part of a value a condition keeps; see `Condition.partial`.

        Args:
          condition: its `keep` or its `mask`.
          value: the raw value.

        Returns:
          bool, which broadcasts against the value.

        Raises:
          ConfigError: no part of a value of this modality can be kept, or not the one that is named.
        """
        del condition, value
        raise ConfigError(f"{self.name}: no part of it can be kept; give all of it, or a strength")

    def hide(self, media: PyTree, mask: Array) -> PyTree:
        """Media of which the prompt encoder sees the kept cells alone, the rest filled up about as `filled` does.

        Args:
          media: a batch.
          mask: 1 for kept cells of the latent; [B, …] with an axis for each of the latent, of length 1 but for
            `part_axes`.
        """
        raise NotImplementedError(f"{self.name} has `part_axes` but no `hide`")

    def latent_mask(self, kept: np.ndarray) -> np.ndarray:
        """Which cells of the latent are kept whole: float32 of 0 and 1, which broadcasts against latent_shape."""
        raise NotImplementedError(f"{self.name} has `kept` but no `latent_mask`")

    def composite(self, generated: Any, value: Any, kept: np.ndarray) -> Any:
        """The generated raw value with the kept part of the given one in its place, bit by bit."""
        return np.where(kept, value, generated)

    def filled(self, value: Any, kept: np.ndarray) -> Any:
        """The raw value as a prompt of its kept part: with something neutral in place of the rest."""
        return np.where(kept, value, np.zeros_like(value))

    def beginnings(self, values: Sequence[Any]) -> np.ndarray:
        """Raw values as what `decode_latent` takes as the beginning of the outputs; of a modality that `completes`.

        Raises:
          ConfigError: a value is too long.
        """
        raise NotImplementedError(f"{self.name} cannot begin with a value")

    def complete(self, generated: Any, value: Any) -> Any:
        """The generated raw value, with the given one as its beginning as it was given."""
        raise NotImplementedError(f"{self.name} cannot begin with a value")

    def component(self, variables: Variables, role: str) -> dict:
        """Parameters of the component of a role.

        Raises:
          ConfigError: `variables` lacks them.
        """
        name = self.components[role]
        if name not in variables["params"]:
            raise ConfigError(f"the {role} of {self.name} ({name}) is missing; run the stage that trains it")
        return variables["params"][name]

    def subset(self, variables: Variables, roles: Iterable[str]) -> Variables:
        """Variables of the components of these roles alone, as far as there are such components.

        A program compiled for them does not depend on which other components were read.
        """
        names = [self.components[role] for role in roles if role in self.components]
        return {kind: {name: tree[name] for name in names if name in tree} for kind, tree in variables.items()}

    def constants(self, variables: Variables, role: str) -> dict:
        """Constants of the component of a role."""
        return variables["constants"][self.components[role]]

    def default_constants(self) -> dict[str, dict[str, np.ndarray]]:
        """Constants before any statistics: latents and prompts are not changed."""
        shape = (self.latent_shape[-1],)
        prompt = {"centre": np.zeros((self.dims.width,), np.float32), "gain": np.ones((), np.float32)}
        return {
            self.components["codec"]: {"shift": np.zeros(shape, np.float32), "scale": np.ones(shape, np.float32)},
            **{self.components[role]: prompt for role in ("prompt", PARTS) if role in self.components},
        }

    def encode(self, variables: Variables, media: PyTree) -> tuple[Array, Array]:
        """Mean and standard deviation of the posterior of the normalised latent, each [B, *latent_shape]."""
        mean, logvar = self.encode_moments(self.component(variables, "codec"), media)
        constants = self.constants(variables, "codec")
        std = jnp.exp(0.5 * logvar) * self.sampled_posterior
        return (mean - constants["shift"]) * constants["scale"], std * constants["scale"]

    def denormalize(self, variables: Variables, z: Array) -> Array:
        """z / scale + shift: the normalised latent z [B, *latent_shape] as the codec decodes it."""
        constants = self.constants(variables, "codec")
        return z / constants["scale"] + constants["shift"]

    def prompt(self, variables: Variables, media: PyTree, untruncated: bool = False, role: str = "prompt") -> Array:
        """Prompt tokens [B, D], centred and scaled; `untruncated` as in `embed`; `role` is "prompt" or PARTS."""
        constants = self.constants(variables, role)
        embedding = self.embed(self.component(variables, role), media, untruncated)
        return (embedding - constants["centre"]) * constants["gain"]

    def environment_tokens(self, variables: Variables, z: Array, t: Array, timed: bool = True) -> Array:
        """V(z_t, t): environment tokens [B, K, E], the last T of which, `timed_tokens`, have a time, if `timed`.

        The time embedding is that of the modality's (frozen) denoiser.
        """
        emb = self._embed_time(variables, t)
        environment = self.component(variables, "environment")
        tokens = apply(EnvironmentEncoder.__call__, self.environment, environment, z, emb)
        if not (timed and self.timed_tokens):
            return tokens
        return jnp.concatenate([tokens, self.timing_tokens(variables, z, t)], axis=1)

    def timing_tokens(self, variables: Variables, z: Array, t: Array) -> Array:
        """The tokens that have a time, [B, T, E], of a modality with attention in time; see `environment_tokens`."""
        encoder = self.component(variables, TIMING)["encoder"]
        return apply(EnvironmentEncoder.__call__, self.timing, encoder, z, self._embed_time(variables, t))

    def _embed_time(self, variables: Variables, t: Array) -> Array:
        return apply(Denoiser.embed_time, self.denoiser, {"unet": self.component(variables, "denoiser")}, t)

    def denoise(
        self,
        variables: Variables,
        z: Array,
        t: Array,
        context: Tokens,
        environment: Tokens | None = None,
        gate: Array | None = None,
    ) -> Array:
        """The prediction of the denoiser, [B, *latent_shape] or [k·B, *latent_shape].

        Args:
          variables: parameters of the denoiser, and of X if there is an environment.
          z: z_t, [B, *latent_shape].
          t: timesteps [B], or [1] for all samples.
          context: prompt tokens [B, L, D], or [k·B, L, D] for k variants, see `nn.unet.UNet`.
          environment: tokens of the other outputs for the last B' <= k·B samples, [B', K, E]; None for none.
          gate: [B'], multiplies the output of X; None for 1.
        """
        params = {"unet": self.component(variables, "denoiser")}
        if environment is not None:
            params["cross"] = self.component(variables, "cross")
            if self.timed_tokens and environment.timed is not None:
                params["timed"] = self.component(variables, TIMING)["attention"]
        network = offloaded(partial(apply, Denoiser.__call__, self.denoiser), self.dims.remat)
        return network(params, z, t, context, environment, gate)


def decode_by_codec(modality: Modality, variables: Variables, z: Array) -> PyTree:
    """`decode_latent` of a modality that needs its codec only."""
    return modality.decode(modality.component(variables, "codec"), modality.denormalize(variables, z))


class _Modalities(Registry[type[Modality]]):
    def add(self, name: str, entry: type[Modality]) -> None:
        if name != entry.name:
            raise ValueError(f"{entry.__name__}.name is {entry.name!r}, but it is registered as {name!r}")
        super().add(name, entry)


# In this order the modalities of a model are listed, those of other packages last.
MODALITIES = _Modalities(
    "modality", {name: f"codi_jax.modalities.{name}" for name in ("text", "image", "audio", "video")}
)
register = MODALITIES.register  # a class decorator
