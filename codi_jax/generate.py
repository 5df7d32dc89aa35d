"""Any to any: prompts in, any subset of modalities out, generated together.

    prompts → C_m → context;   z_T ~ N(0, I) for every output
    every step: all V_m(z_t, t) → every denoiser with the others' tokens → guidance → sampler update
    z_0 → codec decode → values

All outputs advance in lock-step, unless one is delayed: training draws every modality's noise level independently, so
any path through their levels is one it has seen, and an output that starts later reads others that are clearer than it.
On CPU a host loop calls one compiled step a modality (`loop: host`): the number of
programs grows with the modalities, not with their subsets, since absent outputs enter as zero tokens of zero weight. On
accelerators the whole sampler is one program (`loop: scan`). Noise is folded by the name of the modality, so what else
is generated changes nobody's noise.
"""

import dataclasses
import warnings
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from functools import cached_property, partial
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding

from codi_jax import storage
from codi_jax.codi import CoDi
from codi_jax.config import ConfigError
from codi_jax.diffusion import guidance as guide
from codi_jax.diffusion.guidance import ClassifierFreeGuidance, Guidance
from codi_jax.diffusion.samplers import SAMPLERS, JointStep, State, delayed, sample, timesteps
from codi_jax.parallel import distributed, replicated
from codi_jax.progress import ProgressFn
from codi_jax.rng import fold
from codi_jax.types import Array, Tokens

SAMPLED = ("denoiser", "environment", "cross")  # the roles that the sampler calls


class PromptWarning(UserWarning):
    """A prompt holds something that the model does not know, a word that is not in its vocabulary."""


@dataclasses.dataclass(frozen=True)
class GenerateConfig:
    """`config.generate`.

    Attributes:
      steps: network calls.
      sampler: `ddim` or `dpmpp_2m`; eta is DDIM's.
      spacing: `trailing`, or `release` for the release's timesteps.
      delay: steps by which an output starts after the others, where it is not the only one; 0 if not given. No output
        makes more steps for it.
      guidance: scales by output modality.
      loop: `host`, `scan`, or `auto`: host on CPU, scan elsewhere.
    """

    guidance: dict[str, ClassifierFreeGuidance]
    steps: int = 25
    sampler: Literal["ddim", "dpmpp_2m"] = "ddim"
    eta: float = 0.0
    spacing: Literal["trailing", "release"] = "trailing"
    delay: dict[str, int] = dataclasses.field(default_factory=dict)
    loop: Literal["auto", "host", "scan"] = "auto"


class Generator:
    """Compiled generation with one model and one sampler; call `generate` as often as you like.

    Args:
      codi: the model.
      config: sampler and guidance.
    """

    def __init__(self, codi: CoDi, config: GenerateConfig):
        self.codi, self.config = codi, config
        for name in (*config.guidance, *config.delay):
            codi[name]
        for name, steps in config.delay.items():
            if steps < 0:
                raise ConfigError(f"delay of {name}: {steps} steps; it has to be 0 or more")
        if not 0 <= config.eta <= (1 if SAMPLERS[config.sampler].stochastic else 0):
            raise ConfigError(f"sampling: eta is {config.eta}, which {config.sampler} cannot honour")
        self.pairs = timesteps(codi.schedule, config.steps, config.spacing)
        self.scan = config.loop == "scan" or (config.loop == "auto" and jax.default_backend() != "cpu")
        self._programs: dict[tuple, Any] = {}

    # The mathematics, pure.

    def _tokens(self, variables: dict, name: str, z: Array, t: Array) -> Array:
        # An output that is done waits at the clean level, -1; the lowest that V was trained on is 0.
        return self.codi[name].environment_tokens(variables, z, jnp.maximum(t, 0))

    def _levels(self, outputs: Sequence[str]) -> dict[str, np.ndarray]:
        """The levels (t, t_next) of every output, step by step: [S, 2] each, S the same for all."""
        delay = {name: self.config.delay.get(name, 0) for name in outputs}
        first, last = min(delay.values()), max(delay.values())
        steps = len(self.pairs) + last - first
        return {name: delayed(self.pairs, delay[name] - first, steps) for name in outputs}

    def _guided(self, args: dict, name: str, z: Array, t: Array, tokens: Mapping[str, Array] | None) -> Array:
        """The guided prediction of one output; `tokens` is None when it is the only one."""
        batch = z.shape[0]
        if tokens is None:
            branches, environment, gate = guide.ALONE, None, None
        else:
            branches = guide.RELEASE if self.codi.config.compat == "release" else guide.JOINT
            environment, gate = self.codi.environment(tokens, args["connectivity"][name])
            repeat = partial(jnp.tile, reps=(len(branches), 1))
            gate = jnp.concatenate([gate * branch.environment for branch in branches])
            environment = Tokens(jnp.tile(environment.values, (len(branches), 1, 1)), repeat(environment.bias))
        prompts = [args["context"] if branch.prompt else args["null"] for branch in branches]
        context = jax.tree.map(lambda *x: jnp.concatenate(x), *prompts)
        k = len(branches)
        stacked = self.codi[name].denoise(
            args["variables"], jnp.tile(z, (k,) + (1,) * (z.ndim - 1)), jnp.tile(t, k), context, environment, gate
        )
        coefficients = args["guidance"][name](t, branches)
        return guide.combine(stacked.reshape(k, batch, *z.shape[1:]), coefficients)

    def _noise(self, args: dict, name: str, index: Array) -> Array:
        shape = (args["context"].values.shape[0], *self.codi[name].latent_shape)
        return jax.random.normal(fold(args["key"], name, "step", index), shape)

    # Programs.

    def _program(self, kind: str, name: str, function: Any) -> Any:
        """One jitted program a (kind, modality)."""
        if (kind, name) not in self._programs:
            self._programs[kind, name] = jax.jit(function)
        return self._programs[kind, name]

    def compiled_programs(self) -> int:
        """How many programs have been compiled so far (over all batch sizes)."""
        return sum(program._cache_size() for program in self._programs.values())

    def _advance(self, name: str, alone: bool) -> Any:
        """One sampler step of one output."""
        step = JointStep(
            predict=lambda args, z, t: self._guided(args, name, z, t, None if alone else args["tokens"]),
            schedule=self.codi.schedule,
            sampler=self.config.sampler,
            kinds=(self.codi.config.prediction,),
            noise_fn=(lambda args, index: self._noise(args, name, index)) if self.config.eta else None,
        )
        return self._program("advance alone" if alone else "advance", name, step)

    @cached_property
    def _all_at_once(self) -> Any:
        """Predictions of all outputs in one function, for the scan."""

        def predict(args, z, t):
            tokens = None
            if len(z) > 1:
                tokens = dict(args["absent"])
                tokens.update({name: self._tokens(args["variables"], name, z[name], t[name]) for name in z})
            return {name: self._guided(args, name, z[name], t[name], tokens) for name in z}

        return predict

    @cached_property
    def _all_noise(self) -> Any:
        return lambda args, index: {name: self._noise(args, name, index) for name in args["connectivity"]}

    # The loop.

    def prompts(self, variables: dict, values: Mapping[str, Sequence[Any]]) -> dict[str, Array]:
        """Natural values by modality to prompt tokens [n, D]; a PromptWarning says what the model does not know."""
        out = {}
        for name in self.codi.order(values):
            if unknown := self.codi[name].unknown(values[name]):
                warnings.warn(unknown, PromptWarning, stacklevel=2)
            out[name] = self._prompt(name, variables, self.codi[name].preprocess(values[name]))
        return out

    def _prompt(self, name: str, variables: dict, media: Any) -> Array:
        return self._program("prompt", name, self.codi[name].prompt)(variables, media)

    def null_prompt_modalities(self, prompts: Iterable[str]) -> tuple[str, ...]:
        """The modalities whose empty media are the null prompt: those that prompt, or the model's first."""
        return tuple(prompts) or tuple(self.codi.modalities)[:1]

    def _outputs(self, names: Iterable[str]) -> tuple[str, ...]:
        if not (outputs := self.codi.order(names)):
            raise ConfigError(f"nothing to generate; name some of {', '.join(self.codi.modalities)}")
        return outputs

    def latents(
        self,
        variables: dict,
        outputs: Sequence[str],
        prompts: Mapping[str, Array],
        n: int,
        key: jax.Array,
        weights: Mapping[str, Any] | None = None,
        guidance: Mapping[str, Guidance] | None = None,
        noise: Mapping[str, Array] | None = None,
        null: Mapping[str, Array] | None = None,
        progress: ProgressFn | None = None,
    ) -> dict[str, Array]:
        """Samples latents of all outputs together.

        Args:
          variables: parameters and constants of the model.
          outputs: modalities to generate.
          prompts: modality -> prompt tokens [n, D]; empty for the open prompt.
          n: samples.
          key: PRNG key.
          weights: mix weights of the prompts, numbers or one a sample [n]; 1 each if not given.
          guidance: scales by output, the config's if not given.
          noise: z_T by output, drawn if not given.
          null: the null prompts beside them, as `CoDi.null_prompts` makes them, which is done if not given.
          progress: called after every step of the host loop; of a scan, when it starts.

        Returns:
          Normalised latents {output: [n, *latent]}.
        """
        codi, outputs = self.codi, self._outputs(outputs)
        guidance = {**self.config.guidance, **(guidance or {})}
        null = codi.context(null or codi.null_prompts(variables, self.null_prompt_modalities(prompts), n), weights)
        connectivity = codi.connectivity(outputs)
        index = {name: i for i, name in enumerate(codi.modalities)}
        replicate_on_mesh = _mesh_replicator(variables)
        null = replicate_on_mesh(null)
        args = {
            "variables": variables,
            "context": replicate_on_mesh(codi.context(prompts, weights)) if prompts else null,
            "null": null,
            "connectivity": replicate_on_mesh({name: jnp.asarray(connectivity[index[name]]) for name in outputs}),
            "guidance": {
                name: guidance.get(name, ClassifierFreeGuidance()).coefficients(codi.schedule.steps) for name in outputs
            },
            "key": replicate_on_mesh(key),
        }
        z = {
            name: jax.random.normal(fold(key, name, "z_T"), (n, *codi[name].latent_shape))
            if noise is None
            else noise[name]
            for name in outputs
        }
        z = replicate_on_mesh(z)
        absent = (
            {}
            if len(outputs) < 2
            else replicate_on_mesh({m: codi.zero_environment_tokens(m, n) for m in codi.modalities})
        )
        if self.scan:
            if progress is not None:
                progress("sampling")
            return sample(
                self._all_at_once,
                z,
                codi.schedule,
                np.stack([levels for _, levels in sorted(self._levels(outputs).items())], axis=1),
                args={**args, "absent": absent},
                kind=codi.config.prediction,
                sampler=self.config.sampler,
                eta=self.config.eta,
                noise_fn=self._all_noise if self.config.eta else None,
                loop="scan",
            )
        return self._host_loop(args, absent, z, progress)

    def _host_loop(
        self, args: dict, absent: dict, z: dict[str, Array], progress: ProgressFn | None
    ) -> dict[str, Array]:
        alone, replicate_on_mesh = len(z) == 1, _mesh_replicator(args["variables"])
        states = {name: SAMPLERS[self.config.sampler].init(x) for name, x in z.items()}
        single = {name: {**args, "connectivity": {name: args["connectivity"][name]}} for name in z}
        for name in z:
            single[name]["guidance"] = {name: args["guidance"][name]}
        levels = self._levels(tuple(z))
        steps = len(levels[next(iter(z))])
        for i in range(steps):
            if progress is not None:
                jax.block_until_ready(states)
                progress("sampling", i, steps)
            now = {name: rows[i] for name, rows in levels.items()}
            tokens = dict(absent)
            if not alone:
                for name, state in states.items():
                    program = self._program("environment", name, partial(self._tokens_of, name))
                    tokens[name] = replicate_on_mesh(program(args["variables"], state, now[name][0]))
            states = {
                name: state  # it waits
                if t == t_next
                else replicate_on_mesh(
                    self._advance(name, alone)(
                        state, {**single[name], "tokens": tokens}, jnp.float32(self.config.eta), i, t, t_next
                    )
                )
                for (name, state), (t, t_next) in zip(states.items(), now.values(), strict=True)
            }
        return {name: state.z for name, state in states.items()}

    def _tokens_of(self, name: str, variables: dict, state: State, t: Array) -> Array:
        return self._tokens(variables, name, state.z, jnp.full(state.z.shape[:1], t, jnp.int32))

    def decode(self, variables: dict, latents: Mapping[str, Array]) -> dict[str, list[Any]]:
        """Latents to natural values by output."""
        out = {}
        for name, z in latents.items():
            program = self._program("decode", name, self.codi[name].decode_latent)
            out[name] = self.codi[name].postprocess(distributed.fetch(program(variables, z)))
        return out

    def generate(
        self,
        variables: dict | Callable[[tuple[str, ...]], dict],
        outputs: Sequence[str],
        values: Mapping[str, Sequence[Any]],
        n: int,
        key: jax.Array,
        weights: Mapping[str, Any] | None = None,
        guidance: Mapping[str, Guidance] | None = None,
        progress: ProgressFn | None = None,
    ) -> dict[str, list[Any]]:
        """Values in, values out; see `latents`. Each prompt has n values, or one that serves all n samples.

        `variables` may be a function of names of components: it is then asked for the prompt encoders, for what the
        sampler needs and for the codecs, one modality after the other, and no more is in memory at a time.
        """
        get_variables = variables if callable(variables) else lambda _, variables=variables: variables
        for name, given in values.items():
            if len(given) not in (1, n):
                raise ConfigError(f"{len(given)} {name} prompts for {n} samples; give 1 or {n}")
        codi, outputs = self.codi, self._outputs(outputs)
        encoders, sampled, decoders = self.components(outputs, values)
        prompts, null = {}, {}
        for name, needed in encoders.items():
            if progress is not None:
                progress(f"{name} prompt")
            variables = get_variables(needed) if needed else {}
            if name in values:
                prompts |= self.prompts(variables, {name: list(values[name]) * (n // len(values[name]))})
            null |= codi.null_prompts(variables, (name,), n, self._prompt)
            jax.block_until_ready((prompts, null))
            del variables
        if progress is not None:
            progress(f"reading {', '.join(sampled)}")
        variables = jax.block_until_ready(get_variables(sampled))
        latents = self.latents(variables, outputs, prompts, n, key, weights, guidance, null=null, progress=progress)
        jax.block_until_ready(latents)
        del variables
        out = {}
        for name, needed in decoders.items():
            if progress is not None:
                progress(f"decoding {name}")
            out |= self.decode(get_variables(needed), {name: latents[name]})
        return out

    def components(
        self, outputs: Sequence[str], prompts: Collection[str]
    ) -> tuple[dict[str, tuple[str, ...]], tuple[str, ...], dict[str, tuple[str, ...]]]:
        """What `generate` reads.

        Returns:
          Components of the prompt encoders by modality (the null prompt's, too, if it is made), of the sampler, and of
          the codecs by output.

        Raises:
          ConfigError: no outputs, or a modality that this model has not.
        """
        codi, outputs = self.codi, self._outputs(outputs)
        encoders = {
            name: (codi[name].components["prompt"],) if name in prompts or codi.config.null == "empty" else ()
            for name in codi.order(self.null_prompt_modalities(prompts))
        }
        roles = ("denoiser",) if len(outputs) < 2 else SAMPLED
        sampled = tuple(dict.fromkeys(codi[name].components[role] for name in outputs for role in roles))
        decoders = {
            name: tuple(c for role, c in codi[name].components.items() if role not in ("prompt", *SAMPLED))
            for name in outputs
        }
        return encoders, sampled, decoders


def _mesh_replicator(variables: dict) -> Callable[[Any], Any]:
    """Where parameters are split over a mesh, a function that puts a tree on all of it, whole; else the identity.

    A program is compiled anew for arrays that lie elsewhere: none may follow from where an array happened to be made.
    """
    leaf = next(iter(jax.tree.leaves(variables["params"])), None)
    place = getattr(leaf, "sharding", None)
    return partial(jax.device_put, device=replicated(place.mesh)) if isinstance(place, NamedSharding) else lambda x: x


def save(codi: CoDi, values: Mapping[str, Sequence[Any]], directory: Any) -> list[Any]:
    """Writes values as files `<modality>_<i><suffix>` and returns their paths."""
    directory.mkdir(parents=True, exist_ok=True)
    paths = []
    for name, items in values.items():
        for i, item in enumerate(items):
            paths.append(directory / f"{name}_{i}{codi[name].suffix}")
            with storage.whole(paths[-1]) as fresh:
                codi[name].write(item, fresh)
    return paths
