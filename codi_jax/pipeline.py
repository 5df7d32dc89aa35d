"""Any to any: prompts in, any subset of modalities out, generated together.

    prompts → C_m → context;   z_T ~ N(0, I) for every output
    every step: all V_m(z_t, t) → every denoiser with the others' tokens → guidance → sampler update     (sampling/)
    z_0 → codec decode → raw values

Noise keys are folded by the name of the modality, so the noise of an output does not depend on the other outputs.
"""

import warnings
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from codi_jax import storage
from codi_jax.codi import CoDi
from codi_jax.config import ConfigError
from codi_jax.diffusion.guidance import ClassifierFreeGuidance, Guidance
from codi_jax.parallel import distributed
from codi_jax.progress import ProgressFn
from codi_jax.rng import fold
from codi_jax.sampling.config import GenerateConfig
from codi_jax.sampling.joint import SamplerInputs
from codi_jax.sampling.loop import JointSampler, Programs, mesh_replicator
from codi_jax.types import Array, PyTree

SAMPLED = ("denoiser", "environment", "cross")  # the roles that the sampler uses


class PromptWarning(UserWarning):
    """A prompt contains something unknown to the model, such as a word outside its vocabulary."""


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
        for name in config.guidance:
            codi[name]
        self._programs = Programs()
        self._sample = JointSampler(codi, config, self._programs)

    def compiled_programs(self) -> int:
        """Number of programs compiled so far, over all batch sizes."""
        return self._programs.compiled()

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

    def _prompt(self, name: str, variables: dict, media: PyTree) -> Array:
        return self._programs.get("prompt", name, self.codi[name].prompt)(variables, media)

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
        null = null or codi.null_prompts(variables, self.null_prompt_modalities(prompts), n)
        connectivity = codi.connectivity(outputs)
        index = {name: i for i, name in enumerate(codi.modalities)}
        replicate = mesh_replicator(variables)
        null_context = replicate(codi.context(null, weights))
        absent = {} if len(outputs) < 2 else {m: codi.zero_environment_tokens(m, n) for m in codi.modalities}
        inputs = SamplerInputs(
            variables=variables,
            context=replicate(codi.context(prompts, weights)) if prompts else null_context,
            null=null_context,
            connectivity=replicate({name: jnp.asarray(connectivity[index[name]]) for name in outputs}),
            guidance={
                name: guidance.get(name, ClassifierFreeGuidance()).coefficients(codi.schedule.steps) for name in outputs
            },
            tokens=replicate(absent),
            key=replicate(key),
        )
        z = {
            name: jax.random.normal(fold(key, name, "z_T"), (n, *codi[name].latent_shape))
            if noise is None
            else noise[name]
            for name in outputs
        }
        return self._sample(inputs, replicate(z), progress)

    def decode(self, variables: dict, latents: Mapping[str, Array]) -> dict[str, list[Any]]:
        """Decodes normalised latents {output: [n, *latent_shape]} to lists of raw values."""
        out = {}
        for name, z in latents.items():
            program = self._programs.get("decode", name, self.codi[name].decode_latent)
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
        get_variables = variables if callable(variables) else lambda _: variables
        for name, prompts in values.items():
            if len(prompts) not in (1, n):
                raise ConfigError(f"{len(prompts)} {name} prompts for {n} samples; give 1 or {n}")
        codi, outputs = self.codi, self._outputs(outputs)
        encoders, sampled, decoders = self.components(outputs, values)
        prompts, null = {}, {}
        for name, needed in encoders.items():
            if progress is not None:
                progress(f"{name} prompt")
            loaded = get_variables(needed) if needed else {}
            if name in values:
                prompts |= self.prompts(loaded, {name: list(values[name]) * (n // len(values[name]))})
            null |= codi.null_prompts(loaded, (name,), n, self._prompt)
            jax.block_until_ready((prompts, null))
            del loaded
        if progress is not None:
            progress(f"reading {', '.join(sampled)}")
        loaded = jax.block_until_ready(get_variables(sampled))
        latents = self.latents(loaded, outputs, prompts, n, key, weights, guidance, null=null, progress=progress)
        jax.block_until_ready(latents)
        del loaded
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


def save(codi: CoDi, values: Mapping[str, Sequence[Any]], directory: Path) -> list[Path]:
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
