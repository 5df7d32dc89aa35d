"""What users call: any prompts in, any outputs out, generated together.

    pipe = codi_jax.load("digit_world")
    out = pipe({"text": "a red seven moving left"}, to=("image", "audio"), n=4, seed=0)
    out.image[0], out.audio[0]

A pipeline takes and returns what users have (`Modality.raw_from_user`, `user_from_raw`), checks a request before it
computes anything, and holds the weights and the compiled programs of a model. The work is done by
`sampling.generator.Generator`.
"""

import copy
import dataclasses
import itertools
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from codi_jax import pretrained, storage
from codi_jax.codi import CoDi
from codi_jax.config import ConfigError, from_dict
from codi_jax.diffusion.guidance import Guidance
from codi_jax.hub import repository as hub
from codi_jax.interop import shards
from codi_jax.nn import lora
from codi_jax.optim import merge
from codi_jax.output import Output
from codi_jax.parallel import distributed
from codi_jax.pretrained import ModelSource
from codi_jax.progress import ProgressFn
from codi_jax.sampling import arguments
from codi_jax.sampling.chunks import split
from codi_jax.sampling.config import GenerateConfig
from codi_jax.sampling.generator import Generator
from codi_jax.sampling.given import Given, conditions, encode
from codi_jax.sampling.held import Held, shares
from codi_jax.sampling.previews import PreviewFn
from codi_jax.sampling.prompts import warn_of_ignored
from codi_jax.sampling.weights import Weights


class Pipeline:
    """Generates any outputs from any prompts with one model. `codi_jax.load` makes one from files.

    A prompt is a string (a text, or the path of a file), the contents of a file in bytes, an image of Pillow, an array
    or `Audio(samples, rate)`: see `raw_from_user` of its modality. A list of prompts is a batch. Where a mapping from
    modalities is expected, a value that is no mapping is one of the model's first modality, which is text if it has it.

    Attributes:
      codi: the model.
      config: the settings of generation that apply where a call does not name others.
    """

    def __init__(
        self,
        codi: CoDi,
        config: GenerateConfig,
        variables: dict[str, Any] | Weights,
        source: ModelSource | None = None,
    ):
        """
        Args:
          codi: the model.
          config: sampler and guidance.
          variables: parameters and constants {"params", "constants"} of the model, or a reader of them.
          source: where the model comes from, for `save_pretrained`.

        Raises:
          ConfigError: see `Generator`.
        """
        self.codi, self.config, self._source = codi, config, source or ModelSource()
        self._weights = variables if isinstance(variables, Weights) else Weights.of(variables)
        self._generators = {config_key(config): Generator(codi, config)}

    @property
    def modalities(self) -> tuple[str, ...]:
        """The names of the modalities of the model, each of which can be a prompt and an output."""
        return tuple(self.codi.modalities)

    def __repr__(self) -> str:
        return f"Pipeline({', '.join(self.modalities)})"

    def __call__(
        self,
        prompts: Any = None,
        to: str | Sequence[str] = (),
        n: int = 1,
        seed: int | Sequence[int] = 0,
        *,
        weights: Mapping[str, Any] | None = None,
        guidance: float | Mapping[str, float | Guidance] | None = None,
        negative: Any = None,
        steps: int | None = None,
        sampler: str | None = None,
        eta: float | None = None,
        spacing: str | None = None,
        progress: ProgressFn | None = None,
        preview: PreviewFn | None = None,
        batch_size: int | None = None,
        latents: Mapping[str, Any] | None = None,
        hold: Mapping[str, Any] | None = None,
        decode: bool = True,
    ) -> Output:
        """Generates all outputs together.

        Args:
          prompts: modality -> prompt, or a list of b prompts; all lists have the same length, and what is no list
            counts for all of them. None for unconditional generation (b = 1).
          to: the name of an output, or names of several.
          n: number of samples of each prompt. Outputs have b · n items, those of the first prompt first.
          seed: one integer of at most 64 bits: the noise is that of the whole batch, and the same call gives the same
            samples. Or one integer for each of the b · n samples: the noise of a sample depends on its own seed alone,
            so that it can be generated again in another batch. (Where captions are sampled from their latents, as with
            the public weights, the caption also depends on the position in the batch; see `TextConfig.seed`.)
          weights: mix weights of the prompts by modality, numbers or sequences of b · n numbers; 1 for those not given.
          guidance: output -> the scale of guidance by the prompt, or a `Guidance`; the config's for those not given. A
            number is the scale of all outputs.
          negative: as `prompts`; guidance leads away from them instead of from the null prompt.
          steps, sampler, eta, spacing: in place of the config's, see `GenerateConfig`.
          progress: called when an activity starts and before every network call of the sampler.
          preview: called after every network call with what the outputs are becoming, latents that `decode` decodes;
            not where one program is the whole sampler (on accelerators) or adds noise, see `sampling.previews`.
          batch_size: number of samples that are computed at a time; all if None. More are computed in chunks, see
            `Generator.sample`, which says what noise a single seed gives them.
          latents: output -> noise z_T to start from, [b · n, *latent_shape]; drawn for those not given.
          hold: output -> what is given of it: a `Condition`, or a value that is kept whole. Such an output is one of
            `to`, also if it is not named there; the others go with what is kept of it. Values are as prompts. What is
            kept is also a prompt of its modality, unless `prompts` has one; the rest of a part is filled up from the
            nearest frames, in the median colour or with silence. `weights` weighs it as others, 0 leaves it out.
          decode: whether to decode the latents. If not, the output has `latents` only.

        Returns:
          The generated values.

        Raises:
          ConfigError: an argument or a prompt is invalid, or weights are missing. Nothing has been computed by then.

        Warns:
          PromptWarning: the model does not read all of a prompt.
        """
        held = conditions(arguments.by_name("hold", hold))
        named = arguments.names("to", to)
        outputs = self.codi.order([*named, *(name for name in held if name not in named)])
        given, refused = self._raw(prompts), self._raw(negative)
        kept = self._raw({name: of.value for name, of in held.items()} or None)
        generator = self._generator(steps=steps, sampler=sampler, eta=eta, spacing=spacing)
        total, (values, negatives, fixed) = arguments.expand((given, refused, kept), arguments.positive("n", n))
        parts = {name: Given.of(self.codi, name, held[name], fixed[name]) for name in fixed}
        asked = frozenset(values)
        values, weights = self._with_given(values, parts, dict(arguments.by_name("weights", weights)))
        in_part = tuple(name for name in values if name not in asked and parts[name].kept is not None)
        keys = arguments.keys(seed, total)
        mix = arguments.mix_weights(weights, values, total)
        for names in (values, negatives):
            self.codi.shares(names, mix, total)
        guide = arguments.guidance(self.codi, self.config, guidance, outputs)
        noise = arguments.noise(self.codi, latents, outputs, total)
        warn_of_ignored(self.codi, values, negatives)
        encoders, sampled, decoders = generator.components(outputs, values, negatives, in_part)
        split(total, batch_size)
        codecs = [self.codi[name].components["codec"] for name in parts]
        self._weights.check(
            itertools.chain(*encoders.values(), sampled, codecs, *(decoders.values() if decode else ()))
        )
        shares({name: Held(np.zeros(1), share=0.0) for name, of in parts.items() if of.condition.whole}, outputs)
        z = generator.sample(
            self._weights, outputs, values, total, keys, mix, guide, progress,
            negative=negatives, noise=noise, batch_size=batch_size,
            held=encode(
                self.codi, parts, lambda name, of: self._in_chunks("codec", generator.encode, name, of, batch_size)
            ),
            parts=in_part, preview=preview,
        )  # fmt: skip
        if not decode:
            return Output(self.codi, {}, z)
        whole = [name for name, of in parts.items() if of.condition.whole]
        made = generator.decode(
            self._weights, {name: z[name] for name in outputs if name not in whole}, batch_size, progress,
            {name: self.codi[name].beginnings(of.values) for name, of in parts.items() if of.condition.begins},
        )  # fmt: skip
        results = {
            name: parts[name].put_into(self.codi, made.get(name, range(total))) if name in parts else made[name]
            for name in outputs
        }
        return Output(self.codi, results, z)

    def _with_given(
        self, values: dict[str, list[Any]], parts: Mapping[str, Given], weights: dict[str, Any]
    ) -> tuple[dict[str, list[Any]], dict[str, Any]]:
        """The prompts, and what is kept of outputs as prompts of their modalities, where there are no others.

        A weight of 0 leaves out what is kept. Returns the prompts and the weights of those that are left.
        """
        own = {name: of.prompts for name, of in parts.items() if name not in values}
        left_out = [name for name, of in own.items() if of and weights.get(name) == 0]
        every = {**values, **{name: of for name, of in own.items() if of and name not in left_out}}
        kept = {name: weight for name, weight in weights.items() if name not in left_out}
        return {name: every[name] for name in self.codi.order(every)}, kept

    def encode(self, values: Any, *, batch_size: int | None = None) -> dict[str, np.ndarray]:
        """Encodes values by the codecs: modality -> value or list of n values.

        Returns:
          {modality: normalised latents [n, *latent_shape]}, the means of the posteriors.

        Raises:
          ConfigError: a value is invalid, or weights are missing.
        """
        return self._apply("codec", self._generator().encode, self._raw(values), batch_size)

    def embed(self, values: Any, *, batch_size: int | None = None) -> dict[str, np.ndarray]:
        """Embeds values by the prompt encoders, for retrieval: modality -> value or list of n values.

        Returns:
          {modality: float32 [n, D] of unit norm}. Bridging alignment has trained them to be compared between
          modalities by their inner products.

        Raises:
          ConfigError: a value is invalid, or weights are missing.

        Warns:
          PromptWarning: the model does not read all of a value.
        """
        raw = self._raw(values)
        warn_of_ignored(self.codi, {name: items for name, (items, _) in raw.items()})
        return self._apply("prompt", self._generator().embed, raw, batch_size)

    def decode(
        self, latents: Mapping[str, Any], *, batch_size: int | None = None, progress: ProgressFn | None = None
    ) -> Output:
        """Decodes normalised latents {output: [n, *latent_shape]}.

        Raises:
          ConfigError: latents of another shape, an unknown modality, or weights are missing.
        """
        names = self.codi.order(latents)
        z = {name: arguments.latents(self.codi, name, latents[name]) for name in names}
        generator = self._generator()
        _, _, decoders = generator.components(names, ())
        self._weights.check(itertools.chain(*decoders.values()))
        return Output(self.codi, generator.decode(self._weights, z, batch_size, progress), z)

    def _apply(self, role: str, function: Any, raw: arguments.Given, batch_size: int | None) -> dict[str, np.ndarray]:
        """Calls a function of a modality's raw values, (variables, name, values) -> [n, ...], for all of `raw`."""
        components = {name: (self.codi[name].components[role],) for name in raw}
        self._weights.check(itertools.chain(*components.values()))
        out = {}
        for name, (items, _) in raw.items():
            out[name] = self._in_chunks(role, function, name, items, batch_size)
        return out

    def _in_chunks(
        self, role: str, function: Any, name: str, items: Sequence[Any], batch_size: int | None
    ) -> np.ndarray:
        """The results of a function of the raw values of one modality, see `_apply`, in chunks of them."""
        variables = self._weights((self.codi[name].components[role],))
        parts = [
            distributed.fetch(function(variables, name, [items[i] for i in rows]))
            for rows in split(len(items), batch_size)
        ]
        return np.concatenate(parts)[: len(items)]

    def _raw(self, values: Any) -> dict[str, tuple[list[Any], bool]]:
        """Modality -> its values as raw values, and whether they were given as a list, in the model's order."""
        if values is None:
            return {}
        if not isinstance(values, Mapping):
            values = {self.modalities[0]: values}
        out = {}
        for name in self.codi.order(values):
            items, batched = values[name], isinstance(values[name], list)
            if batched and not items:
                raise ConfigError(f"{name}: an empty list; leave it out to generate without a prompt")
            convert = self.codi[name].raw_from_user
            out[name] = [convert(item) for item in items] if batched else [convert(items)], batched
        return out

    def with_settings(self, **settings: Any) -> "Pipeline":
        """A pipeline of the same model, weights and compiled programs with other fields of `GenerateConfig`.

        Raises:
          ConfigError: an unknown field or an invalid value.
        """
        other = copy.copy(self)
        other.config, other._source = self._changed(settings), self._source.changed()
        other._generators = {config_key(other.config): self._generator().with_config(other.config)}
        return other

    def with_adapters(self, adapters: Any) -> "Pipeline":
        """A pipeline of this model with LoRA adapters added to its weights, and the same compiled programs.

        Args:
          adapters: one, several, or {adapter: weight}, 1 for those without. An adapter is a safetensors file in a
            layout of `interop.lora`, the folder or hf://org/name of one, or the workdir of a run that keeps adapters
            apart. Their sum is added; this pipeline stays as it is.

        Raises:
          ConfigError: an adapter cannot be read or does not fit the model, or a weight is not finite.
        """
        if not isinstance(adapters, Mapping):
            adapters = dict.fromkeys([adapters] if isinstance(adapters, (str, os.PathLike)) else adapters, 1.0)
        weighted = [
            (_read_adapters(self.codi, os.fspath(name)), arguments.finite(f"weight of {os.fspath(name)}", weight))
            for name, weight in adapters.items()
        ]
        tree = lora.combine(weighted)

        def add(params: dict[str, Any]) -> dict[str, Any]:
            return lora.apply(merge(params, {name: tree[name] for name in params if name in tree}))

        other = copy.copy(self)
        other._weights, other._source = self._weights.changed(add), self._source.changed()
        return other

    def save_pretrained(
        self,
        folder: str | os.PathLike,
        *,
        max_shard_size: str | int = shards.DEFAULT_SIZE,
        dtype: str | None = None,
        license: str | None = None,
    ) -> None:
        """Writes the model to a folder from which `codi_jax.load` reads it: safetensors, config.json, README.md.

        README.md is a model card for the Hugging Face hub. It has the numbers of the packaged model, or of metrics.json
        in the workdir, that this pipeline was loaded from, unless its weights or settings were changed since.

        Args:
          folder: a local path or one in an object store; created if absent.
          max_shard_size: of a safetensors file, as "5GB", "500MB" or a number of bytes. A larger model is written in
            several with model.safetensors.index.json.
          dtype: to which parameters are rounded, "float32", "bfloat16" or "float16"; that in which they are held if
            None, so that outputs of the loaded model are the same bits.
          license: of the weights, for the card, as the hub names it ("mit"); that of the packaged model if None.

        Raises:
          ConfigError: the folder holds something else, weights are missing or do not fit `dtype`, or an argument is
            invalid.
        """
        self._save(storage.check_output(folder), "", max_shard_size, dtype, license)

    def push_to_hub(
        self,
        repository: str,
        *,
        private: bool | None = None,
        revision: str | None = None,
        commit_message: str = "Upload a model of codi_jax",
        create_pr: bool = False,
        token: str | None = None,
        max_shard_size: str | int = shards.DEFAULT_SIZE,
        dtype: str | None = None,
        license: str | None = None,
    ) -> str:
        """Uploads what `save_pretrained` writes to the Hugging Face hub, in one commit.

        `codi_jax.load("hf://org/name")` loads it from there.

        Args:
          repository: "org/name" or "hf://org/name"; created if absent.
          private: of a new repository; None for the default of the account.
          revision: the branch, created if absent; None for the default branch.
          commit_message: of the commit.
          create_pr: whether to open a pull request instead.
          token: of an account that may write it; None for HF_TOKEN or that of `hf auth login`.
          max_shard_size, dtype, license: see `save_pretrained`.

        Returns:
          The address of the commit, or of the pull request.

        Raises:
          ConfigError: see `save_pretrained`, or the hub refuses it.
        """
        named = hub.parse(repository + ("" if revision is None else f"@{revision}"))
        return pretrained.push(
            named,
            lambda folder: self._save(folder, named.name, max_shard_size, dtype, license),
            private=private, token=token, commit_message=commit_message, create_pr=create_pr,
        )  # fmt: skip

    def _save(
        self, folder: Path, title: str, max_shard_size: str | int, dtype: str | None, license: str | None
    ) -> None:
        components = tuple(self.codi.component_names())
        self._weights.check(components)
        pretrained.save(
            folder, self.codi, self.config, self._weights(components), self._source,
            max_shard_size=max_shard_size, dtype=dtype, license=license, title=title,
        )  # fmt: skip

    def _changed(self, settings: Mapping[str, Any]) -> GenerateConfig:
        fields = {field.name: getattr(self.config, field.name) for field in dataclasses.fields(self.config)}
        return from_dict(GenerateConfig, {**fields, **settings}, "generate")

    def _generator(self, **changed: Any) -> Generator:
        """The generator of these settings of the config (None: the config's), kept with its compiled programs."""
        config = self._changed({name: value for name, value in changed.items() if value is not None})
        if (key := config_key(config)) not in self._generators:
            self._generators[key] = self._generators[config_key(self.config)].with_config(config)
        return self._generators[key]


def _read_adapters(codi: CoDi, name: str) -> dict[str, Any]:
    """The tree of adapters of a file, or of a workdir."""
    from codi_jax.interop import lora as lora_files  # name tables of public checkpoints are imported only for files

    if hub.is_hub(name):
        return lora_files.read(codi, hub.one_of(hub.parse(name), lora_files.NAMES, [lora_files.SETTINGS]))
    path = storage.check_access(name)
    if (path / lora_files.NAME).exists():
        return lora_files.read(codi, path / lora_files.NAME)
    if not (path / "config.json").exists():
        return lora_files.read(codi, path)
    from codi_jax.train.recipe import load_run  # training is imported only to open a workdir
    from codi_jax.train.variables import all_adapters

    tree = all_adapters(load_run(path))
    lora.check({c: codi.shapes(c) for c in tree if c in codi.component_names()}, tree, name)
    return tree


def config_key(config: GenerateConfig) -> tuple[Any, ...]:
    """What a call may change of a config; generators are kept by it."""
    return config.steps, config.sampler, config.eta, config.spacing
