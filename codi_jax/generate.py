"""Any to any: prompts in, any subset of modalities out, generated together.

    prompts → C_m → context;   z_T ~ N(0, I) for every output
    every step: all V_m(z_t, t) → every denoiser with the others' tokens → guidance → sampler update
    z_0 → codec decode → raw values

All outputs take the same step at the same time, unless one is delayed. Training draws the timestep of every modality
independently, so that any combination of timesteps is in distribution, and a delayed output attends to outputs that are
less noisy than itself.

On CPU a host loop calls one compiled step for each modality (`loop: host`). The number of programs grows with the
number of modalities, not of their subsets: absent outputs enter as zero tokens of zero weight. On accelerators the
whole sampler is one program (`loop: scan`). Noise keys are folded by the name of the modality, so the noise of an
output does not depend on the other outputs.
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

SAMPLED = ("denoiser", "environment", "cross")  # the roles that the sampler uses


class PromptWarning(UserWarning):
    """A prompt contains something unknown to the model, such as a word outside its vocabulary."""


@dataclasses.dataclass(frozen=True)
class GenerateConfig:
    """`config.generate`.

    Attributes:
      guidance: scales and interval by output modality; the defaults of `ClassifierFreeGuidance` for those not named.
      steps: sampling steps of each output; each is one call of its denoiser.
      sampler: `ddim` or `dpmpp_2m`.
      eta: η of DDIM, 0 to 1.
      spacing: `trailing`, or `release` for the timesteps of the CoDi release.
      delay: output modality -> number of steps by which it starts after the others in joint generation; 0 if not named.
        The number of steps of an output stays the same.
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
    """Generation with one model and one sampler; compiled programs are kept between calls.

    Args:
      codi: the model.
      config: sampler and guidance.

    Raises:
      ConfigError: an unknown modality, a negative delay, or an eta that the sampler does not support.
    """

    def __init__(self, codi: CoDi, config: GenerateConfig):
        self.codi, self.config = codi, config
        for name in (*config.guidance, *config.delay):
            codi[name]
        for name, steps in config.delay.items():
            if steps < 0:
                raise ConfigError(f"delay of {name}: {steps} steps; must be 0 or more")
        if not 0 <= config.eta <= (1 if SAMPLERS[config.sampler].stochastic else 0):
            raise ConfigError(f"sampling: eta is {config.eta}, which {config.sampler} does not support")
        self.pairs = timesteps(codi.schedule, config.steps, config.spacing)
        self.scan = config.loop == "scan" or (config.loop == "auto" and jax.default_backend() != "cpu")
        self._programs: dict[tuple, Any] = {}

    # Pure functions of arrays.

    def _tokens(self, variables: dict, name: str, z: Array, t: Array) -> Array:
        # A finished output stays at the clean level, -1; the lowest timestep that V was trained on is 0.
        return self.codi[name].environment_tokens(variables, z, jnp.maximum(t, 0))

    def _levels(self, outputs: Sequence[str]) -> dict[str, np.ndarray]:
        """The timesteps (t, t_next) of every step by output, each [S, 2] with the same S."""
        delay = {name: self.config.delay.get(name, 0) for name in outputs}
        first, last = min(delay.values()), max(delay.values())
        steps = len(self.pairs) + last - first
        return {name: delayed(self.pairs, delay[name] - first, steps) for name in outputs}

    def _guided(self, args: dict, name: str, z: Array, t: Array, tokens: Mapping[str, Array] | None) -> Array:
        """The guided prediction of one output; `tokens` is None if it is the only output."""
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

    # Compiled programs.

    def _program(self, kind: str, name: str, function: Any) -> Any:
        """The jitted function of this kind and modality, made at the first call."""
        if (kind, name) not in self._programs:
            self._programs[kind, name] = jax.jit(function)
        return self._programs[kind, name]

    def compiled_programs(self) -> int:
        """Number of programs compiled so far, over all batch sizes."""
        return sum(program._cache_size() for program in self._programs.values())

    def _advance(self, name: str, alone: bool) -> Any:
        """The compiled sampler step of one output; `alone` without environment."""
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
        """The function that predicts all outputs, for the scan."""

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

    # Generation.

    def prompts(self, variables: dict, values: Mapping[str, Sequence[Any]]) -> dict[str, Array]:
        """Encodes prompts: raw values by modality to prompt tokens [n, D].

        Warns:
          PromptWarning: a prompt contains something unknown to the model.
        """
        out = {}
        for name in self.codi.order(values):
            if unknown := self.codi[name].unknown(values[name]):
                warnings.warn(unknown, PromptWarning, stacklevel=2)
            out[name] = self._prompt(name, variables, self.codi[name].preprocess(values[name]))
        return out

    def _prompt(self, name: str, variables: dict, media: Any) -> Array:
        return self._program("prompt", name, self.codi[name].prompt)(variables, media)

    def null_prompt_modalities(self, prompts: Iterable[str]) -> tuple[str, ...]:
        """The modalities that make up the null prompt: those of the prompts, or else the model's first."""
        return tuple(prompts) or tuple(self.codi.modalities)[:1]

    def _outputs(self, names: Iterable[str]) -> tuple[str, ...]:
        if not (outputs := self.codi.order(names)):
            raise ConfigError(f"nothing to generate; choose from {', '.join(self.codi.modalities)}")
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
          prompts: modality -> prompt tokens [n, D]; empty for unconditional generation.
          n: number of samples.
          key: PRNG key.
          weights: mix weights of the prompts by modality, scalars or [n]; 1 each if None.
          guidance: guidance by output; the config's for those not given.
          noise: z_T by output; drawn if None.
          null: null prompts by modality, see `CoDi.null_prompts`, which makes them if None.
          progress: called before every step of the host loop; once, before a scan.

        Returns:
          Normalised latents {output: [n, *latent_shape]}.

        Raises:
          ConfigError: no outputs, an unknown or repeated modality, or impossible weights.
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
                name: state  # no step for this output: it has not started, or it is finished
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
        """Decodes normalised latents {output: [n, *latent_shape]} to lists of raw values."""
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
        """Generates raw values of all outputs together from prompts given as raw values.

        Args:
          variables: parameters and constants of the model; or a function that loads those of the components it is
            given the names of. It is called for each prompt encoder, for the sampler and for each codec, and each
            result is released before the next call, to bound memory.
          outputs: modalities to generate.
          values: modality -> prompts, n raw values or one for all n samples; empty for unconditional generation.
          n: number of samples.
          key: PRNG key.
          weights: see `latents`.
          guidance: see `latents`.
          progress: called when an activity starts and before every sampling step.

        Returns:
          {output: n raw values}.

        Raises:
          ConfigError: see `latents`; or another number of prompts.
        """
        get_variables = variables if callable(variables) else lambda _, variables=variables: variables
        for name, prompts in values.items():
            if len(prompts) not in (1, n):
                raise ConfigError(f"{len(prompts)} {name} prompts for {n} samples; give 1 or {n}")
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
        """The components that `generate` needs.

        Returns:
          Names of components: of the prompt encoders by modality (those of the null prompt included), of the sampler,
          and of the codecs by output.

        Raises:
          ConfigError: no outputs, or a modality that this model does not have.
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
    """A function that replicates a pytree over the mesh of the parameters; the identity if they are on no mesh.

    jit recompiles for inputs with other shardings. All inputs of a step are replicated, so that its compilation does
    not depend on how they were computed.
    """
    leaf = next(iter(jax.tree.leaves(variables["params"])), None)
    sharding = getattr(leaf, "sharding", None)
    if isinstance(sharding, NamedSharding):
        return partial(jax.device_put, device=replicated(sharding.mesh))
    return lambda tree: tree


def save(codi: CoDi, values: Mapping[str, Sequence[Any]], directory: Any) -> list[Any]:
    """Writes raw values as files `<modality>_<i><suffix>` and returns their paths.

    Args:
      codi: the model.
      values: modality -> raw values.
      directory: path; created if missing.
    """
    directory.mkdir(parents=True, exist_ok=True)
    paths = []
    for name, items in values.items():
        for i, item in enumerate(items):
            paths.append(directory / f"{name}_{i}{codi[name].suffix}")
            with storage.atomic_write(paths[-1]) as fresh:
                codi[name].write(item, fresh)
    return paths
