"""Generation with one model: prompts to latents of all outputs together, latents to raw values.

    prompts → C_m → context;   z_T ~ N(0, I) for every output
    every step: all V_m(z_t, t) → every denoiser with the others' tokens → guidance → sampler update
    z_0 → codec decode → raw values

Noise keys are folded by the name of the modality, so the noise of an output does not depend on the other outputs. Here
values are raw and variables are arguments; `codi_jax.pipeline` is the interface that takes what users have.
"""

import functools
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from codi_jax.codi import CoDi
from codi_jax.config import ConfigError
from codi_jax.diffusion.guidance import ClassifierFreeGuidance, Guidance
from codi_jax.diffusion.samplers import SAMPLERS, adds_noise
from codi_jax.modalities.base import PARTS, TIMING
from codi_jax.parallel import distributed
from codi_jax.progress import ProgressFn
from codi_jax.rng import normal
from codi_jax.sampling.chunks import key_of_chunk, progress_of_chunk, split
from codi_jax.sampling.config import GenerateConfig
from codi_jax.sampling.held import Held, kept, shares, start
from codi_jax.sampling.joint import SamplerInputs
from codi_jax.sampling.loop import JointSampler, Programs, mesh_replicator, on_mesh
from codi_jax.sampling.previews import PreviewFn
from codi_jax.sampling.prompts import warn_of_ignored
from codi_jax.types import Array, PyTree

SAMPLED = ("denoiser", "environment", "cross", TIMING)  # the roles that the sampler uses
Reader = Callable[[tuple[str, ...]], dict[str, Any]]  # names of components -> their variables


class Generator:
    """Generation with one model and one sampler; compiled programs are kept between calls.

    Args:
      codi: the model.
      config: sampler and guidance.
      programs: where compiled programs are kept; generators of one model may share it.

    Raises:
      ConfigError: an unknown modality, a negative delay, or an eta that the sampler does not support.
    """

    def __init__(self, codi: CoDi, config: GenerateConfig, programs: Programs | None = None):
        self.codi, self.config = codi, config
        for name in config.guidance:
            codi[name]
        self._programs = Programs() if programs is None else programs
        self._sample = JointSampler(codi, config, self._programs)

    def with_config(self, config: GenerateConfig) -> "Generator":
        """A generator of the same model with other settings, which shares the compiled programs."""
        return Generator(self.codi, config, self._programs)

    def compiled_programs(self) -> int:
        """Number of programs compiled so far, over all batch sizes."""
        return self._programs.compiled()

    def prompts(self, variables: dict, values: Mapping[str, Sequence[Any]]) -> dict[str, Array]:
        """Encodes prompts: raw values by modality to prompt tokens [n, D].

        Warns:
          PromptWarning: the model does not read all of a prompt.
        """
        warn_of_ignored(self.codi, values)
        return {name: self._encode_prompt(name, variables, values[name]) for name in self.codi.order(values)}

    def _encode_prompt(self, name: str, variables: dict, values: Sequence[Any], role: str = "prompt") -> Array:
        return self._prompt(name, variables, self.codi[name].preprocess(values), role)

    def _run(self, kind: str, name: str, roles: Iterable[str], function: Any, variables: dict, *inputs: Any) -> Any:
        """Calls the compiled function of a modality with the variables of the components of `roles` alone."""
        with on_mesh(variables):
            return self._programs.get(kind, name, function)(self.codi[name].subset(variables, roles), *inputs)

    def _prompt(self, name: str, variables: dict, media: PyTree, role: str = "prompt") -> Array:
        return self._run(role, name, (role,), functools.partial(self.codi[name].prompt, role=role), variables, media)

    def embed(self, variables: dict, name: str, values: Sequence[Any]) -> Array:
        """Embeddings [n, D] of unit norm of raw values: those that bridging alignment compares between modalities."""
        modality = self.codi[name]

        def embed(variables: dict, media: PyTree) -> Array:
            return modality.embed(modality.component(variables, "prompt"), media).astype(jnp.float32)

        return self._run("embed", name, ("prompt",), embed, variables, modality.preprocess(values))

    def encode(self, variables: dict, name: str, values: Sequence[Any]) -> Array:
        """Normalised latents [n, *latent_shape] of raw values: the mean of the codec's posterior."""
        modality = self.codi[name]

        def encode(variables: dict, media: PyTree) -> Array:
            return modality.encode(variables, media)[0]

        return self._run("encode", name, ("codec",), encode, variables, modality.preprocess(values))

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
        held: Mapping[str, Held] | None = None,
        preview: PreviewFn | None = None,
    ) -> dict[str, Array]:
        """Samples latents of all outputs together.

        Args:
          variables: parameters and constants of the model.
          outputs: modalities to generate.
          prompts: modality -> prompt tokens [n, D]; empty for unconditional generation.
          n: number of samples.
          key: PRNG key; or keys [n], one per sample, whose noise depends on its own key alone.
          weights: mix weights of the prompts by modality, scalars or [n]; 1 each if None.
          guidance: guidance by output; the config's for those not given.
          noise: z_T by output; drawn for those not given.
          null: null prompts by modality, see `CoDi.null_prompts`, which makes them if None; or negative prompts.
          progress: called before every network call of the host loop; once, before a scan.
          held: output -> what is given of it.
          preview: see `JointSampler`.

        Returns:
          Normalised latents {output: [n, *latent_shape]}.

        Raises:
          ConfigError: no outputs, an unknown or repeated modality, impossible weights, or all is given.
        """
        codi, outputs = self.codi, self._outputs(outputs)
        held = held or {}
        taken = shares(held, outputs)
        guidance = {**self.config.guidance, **(guidance or {})}
        null = null or codi.null_prompts(variables, self.null_prompt_modalities(prompts), n)
        connectivity = codi.connectivity(outputs, self.config.environment_weights)
        index = {name: i for i, name in enumerate(codi.modalities)}
        replicate = mesh_replicator(variables)
        null_context = replicate(codi.context(null, weights))
        absent = {} if len(outputs) < 2 else {m: codi.zero_environment_tokens(m, n) for m in codi.modalities}
        inputs = SamplerInputs(
            variables=variables,
            prompt=replicate(codi.context(prompts, weights)) if prompts else null_context,
            null=null_context if prompts else None,
            connectivity=replicate({name: jnp.asarray(connectivity[index[name]]) for name in outputs}),
            tokens=replicate(absent),
            # Without noise in its steps, the sampler is compiled once for one key and for keys [n].
            key=replicate(key if adds_noise(SAMPLERS[self.config.sampler], self.config.eta) else jax.random.key(0)),
            kept=replicate(kept(held, n)),
        )
        rules = {name: guidance.get(name, ClassifierFreeGuidance()) for name in outputs}
        z = {
            name: noise[name] if noise and name in noise else normal(key, n, codi[name].latent_shape, name, "z_T")
            for name in outputs
        }
        for name, of in held.items():
            z[name] = start(of, z[name], self._sample.first_timestep(of.share), codi.schedule)
        return self._sample(inputs, rules, replicate(z), progress, taken, preview)

    def decode(
        self,
        variables: dict | Reader,
        latents: Mapping[str, Array],
        batch_size: int | None = None,
        progress: ProgressFn | None = None,
        beginnings: Mapping[str, np.ndarray] | None = None,
    ) -> dict[str, list[Any]]:
        """Decodes normalised latents {output: [n, *latent_shape]} to lists of raw values.

        Args:
          variables: parameters and constants of the model; or a function that reads them, called for each output.
          latents: by output.
          batch_size: see `sample`.
          progress: called when the decoding of an output starts.
          beginnings: output -> what it begins with, [1 or n, …], see `Modality.beginnings`.
        """
        out = {}
        for name, z in latents.items():
            if progress is not None:
                progress(f"decoding {name}")
            modality, roles = self.codi[name], self._decoder_roles(name)
            needed = tuple(modality.components[role] for role in roles)
            loaded = variables(needed) if callable(variables) else variables
            values: list[Any] = []
            for rows in split(len(z), batch_size):
                part = z if len(rows) == len(z) else z[rows]
                first = (beginnings or {}).get(name)
                more = () if first is None else (np.broadcast_to(first, (len(z), *first.shape[1:]))[rows],)
                decoded = self._run("decode", name, roles, modality.decode_latent, loaded, part, *more)
                values += modality.postprocess(distributed.fetch(decoded))
            out[name] = values[: len(z)]
            del loaded
        return out

    def _decoder_roles(self, name: str) -> tuple[str, ...]:
        """The roles of the components that decode latents of a modality."""
        return tuple(role for role in self.codi[name].components if role not in ("prompt", PARTS, *SAMPLED))

    def generate(
        self,
        variables: dict | Reader,
        outputs: Sequence[str],
        values: Mapping[str, Sequence[Any]],
        n: int,
        key: jax.Array,
        weights: Mapping[str, Any] | None = None,
        guidance: Mapping[str, Guidance] | None = None,
        progress: ProgressFn | None = None,
    ) -> dict[str, list[Any]]:
        """Generates raw values of all outputs together from prompts given as raw values: `sample`, then `decode`.

        Returns:
          {output: n raw values}.

        Raises:
          ConfigError: see `sample`.

        Warns:
          PromptWarning: the model does not read all of a prompt.
        """
        warn_of_ignored(self.codi, values)
        latents = self.sample(variables, outputs, values, n, key, weights, guidance, progress)
        return self.decode(variables, latents, progress=progress)

    def sample(
        self,
        variables: dict | Reader,
        outputs: Sequence[str],
        values: Mapping[str, Sequence[Any]],
        n: int,
        key: jax.Array,
        weights: Mapping[str, Any] | None = None,
        guidance: Mapping[str, Guidance] | None = None,
        progress: ProgressFn | None = None,
        *,
        negative: Mapping[str, Sequence[Any]] | None = None,
        noise: Mapping[str, Array] | None = None,
        batch_size: int | None = None,
        held: Mapping[str, Held] | None = None,
        parts: Collection[str] = (),
        preview: PreviewFn | None = None,
    ) -> dict[str, Array]:
        """Samples latents of all outputs together from prompts given as raw values.

        Args:
          variables: parameters and constants of the model; or a function that reads those of the components it is
            given the names of. It is called for each prompt encoder and for the sampler, and each result is released
            before the next call, to bound memory.
          outputs: modalities to generate.
          values: modality -> prompts, n raw values or one for all n samples; empty for unconditional generation.
          n: number of samples.
          key: see `latents`.
          weights: see `latents`.
          guidance: see `latents`.
          progress: called when an activity starts and before every network call of the sampler.
          negative: modality -> negative prompts, n raw values or one, which take the place of the null prompt.
          noise: see `latents`.
          batch_size: number of samples that are computed at a time; all if None. More samples are computed in chunks
            of this size. The last one is filled up with copies, so that all are computed by the same programs. With
            one `key`, the first chunk uses the key itself, and chunk k > 0 the key folded with ("chunk", k).
          held: output -> what is given of it, of n samples or of all.
          parts: the modalities whose prompts are parts of values, the rest filled up.
          preview: see `JointSampler`; of samples in chunks, those of the chunk that is computed.

        Returns:
          Normalised latents {output: [n, *latent_shape]}.

        Raises:
          ConfigError: see `latents`; or another number of prompts.
        """
        read = variables if callable(variables) else lambda _: variables
        negative = negative or {}
        for name, given in (*values.items(), *negative.items()):
            if len(given) not in (1, n):
                raise ConfigError(f"{len(given)} {name} prompts for {n} samples; give 1 or {n}")
        outputs, chunks = self._outputs(outputs), split(n, batch_size)
        encoders, sampled, _ = self.components(outputs, values, negative, parts)
        prompts: list[dict[str, Array]] = [{} for _ in chunks]
        null: list[dict[str, Array]] = [{} for _ in chunks]
        for name, needed in encoders.items():
            if progress is not None:
                progress(f"{name} prompt")
            loaded = read(needed) if needed else {}
            for rows, own, other in zip(chunks, prompts, null, strict=True):
                made = self._prompt_and_null(name, loaded, values, negative, rows, self._prompt_role(name, parts))
                own |= made[0]
                other |= made[1]
            jax.block_until_ready((prompts, null))
            del loaded
        if progress is not None:
            progress(f"reading {', '.join(sampled)}")
        loaded = jax.block_until_ready(read(sampled))
        latents = []
        for k, rows in enumerate(chunks):
            latents.append(
                self.latents(
                    loaded,
                    outputs,
                    prompts[k],
                    len(rows),
                    key_of_chunk(key, k, rows),
                    {name: w[rows] if np.ndim(w) else w for name, w in (weights or {}).items()},
                    guidance,
                    {name: z[rows] for name, z in (noise or {}).items()},
                    null[k],
                    progress_of_chunk(progress, k, len(chunks)),
                    {name: of.rows(rows) for name, of in (held or {}).items()},
                    preview,
                )
            )
            jax.block_until_ready(latents)
        if len(latents) == 1:
            return latents[0]
        return {name: jnp.concatenate([part[name] for part in latents])[:n] for name in outputs}

    def _prompt_and_null(
        self,
        name: str,
        variables: dict,
        values: Mapping[str, Sequence[Any]],
        negative: Mapping[str, Sequence[Any]],
        rows: np.ndarray,
        role: str,
    ) -> tuple[dict[str, Array], dict[str, Array]]:
        """The prompt and the null (or negative) prompt of one modality for some samples, {name: [rows, D]} or {}."""

        def encode(given: Sequence[Any], role: str = "prompt") -> Array:
            return self._encode_prompt(name, variables, [given[i if len(given) > 1 else 0] for i in rows], role)

        def make_null() -> dict[str, Array]:
            return self.codi.null_prompts(variables, (name,), len(rows), self._prompt)

        prompt = {name: encode(values[name], role)} if name in values else {}
        if not negative:
            return prompt, make_null()
        # Without prompts, guidance leads from the negative prompt to the null prompt.
        return prompt if values else make_null(), {name: encode(negative[name])} if name in negative else {}

    def _prompt_role(self, name: str, parts: Collection[str]) -> str:
        """The role of the encoder of a modality's prompts."""
        return PARTS if name in parts and PARTS in self.codi[name].components else "prompt"

    def components(
        self,
        outputs: Sequence[str],
        prompts: Collection[str],
        negative: Collection[str] = (),
        parts: Collection[str] = (),
    ) -> tuple[dict[str, tuple[str, ...]], tuple[str, ...], dict[str, tuple[str, ...]]]:
        """The components that `generate` needs.

        Args:
          outputs: modalities to generate.
          prompts: modalities that have prompts.
          negative: modalities that have negative prompts.
          parts: modalities whose prompts are parts of values.

        Returns:
          Names of components: of the prompt encoders by modality (those of the null prompt included), of the sampler,
          and of the codecs by output.

        Raises:
          ConfigError: no outputs, or a modality that this model does not have.
        """
        codi, outputs = self.codi, self._outputs(outputs)
        null = tuple(negative) or self.null_prompt_modalities(prompts)

        def of(name: str) -> tuple[str, ...]:
            roles = [self._prompt_role(name, parts)] if name in prompts else []
            roles += ["prompt"] if name in negative or codi.config.null == "empty" else []
            return tuple(dict.fromkeys(codi[name].components[role] for role in roles))

        encoders = {name: of(name) for name in codi.order(dict.fromkeys((*prompts, *null)))}
        roles = ("denoiser",) if len(outputs) < 2 else SAMPLED
        sampled = codi.components_of(roles, outputs)
        decoders = {name: tuple(codi[name].components[role] for role in self._decoder_roles(name)) for name in outputs}
        return encoders, sampled, decoders
