"""The samples of `encode` stages: what they were computed from, and how training reads them.

    stages/NAME/arrays.json    what they depend on; written last, so that it marks the stage as finished
      source                   the config of the source, without fields that do not change samples (`config.NO_EFFECT`)
      modalities, model        how media become latents and prompts: codecs, prompt encoders, preprocessing
      weights                  component -> a hash of the checkpoint that it was read from; training refuses samples
                               that depend on other inputs or weights
      samples, records         their number; whether they are files of records or one .npz
      null                     modality -> the null prompt [D], if it is made by the prompt encoders

Training reads samples by position, from one stage, several, or a mixture of them:

    "source": "encode.text+image"
    "source": ("encode.text+image", "encode.text+audio")
    "sources": {"both": {"name": "mixture", "parts": {"a": {"stage": "encode.text+image", "weight": 3.0}, …}}}

Where a stage lacks a modality that another one has, its samples are zero, and `present` is 0.
"""

import contextlib
import json
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from codi_jax.config import ConfigError, first_line, from_dict, to_dict
from codi_jax.data.arrays import Arrays
from codi_jax.data.mixture import MixtureConfig, make_mixture
from codi_jax.data.npy_records import NpyRecords
from codi_jax.data.source import Source, effective_config, read_batch
from codi_jax.modalities.base import TIMING
from codi_jax.objectives.batches import MediaBatches
from codi_jax.parallel import paths
from codi_jax.train.recipe import Run
from codi_jax.train.weights_record import weights_hash

MARKER = "arrays.json"
# Fields of a modality's config that encoding does not read.
_OTHER_STAGES = ("denoiser", "environment", TIMING, "reads_parts")


def inputs(run: Run, name: str) -> dict[str, Any]:
    """What the samples of an `encode` stage depend on, apart from the weights, as JSON types."""
    stage, config = run.stage(name), run.codi.config
    assert isinstance(stage.source, str), "Run has checked that an encode stage names a source"
    modalities = {m: _encoding(run.codi[m].config) for m in stage.modalities}
    model = {"width": config.width, "dtype": config.dtype, "null": config.null, "modalities": modalities}
    source = effective_config(run.config.sources[stage.source], f"sources.{stage.source}")
    return json.loads(json.dumps({"source": source, "modalities": stage.modalities, "model": model}))


def origin(run: Run, name: str) -> dict[str, Any]:
    """What the samples of an `encode` stage depend on.

    Raises:
      ConfigError: a stage that it depends on is not finished.
    """
    stages = run.ancestors(name)
    sources, adapters = run.component_sources(stages), run.adapter_sources(stages)
    components = MediaBatches(run.codi, run.stage(name).modalities).components
    weights = {c: weights_hash(sources[c], adapters.get(c, ())) for c in sorted(set(components)) if c in sources}
    return {**inputs(run, name), "weights": weights}


def check_origin(run: Run, saved: dict[str, Any], expected: dict[str, Any], says: str) -> None:
    """Raises ConfigError if samples depend on other inputs than expected; the message names the first difference.

    A field that the version which wrote `saved` did not have counts as its default, and an old name as the present one.
    """
    current = _up_to_date(run, saved)
    a, b = (paths.flatten({k: v for k, v in tree.items() if k in expected}) for tree in (current, expected))
    if differ := sorted(path for path in a.keys() | b.keys() if a.get(path) != b.get(path)):
        path = differ[0]
        raise ConfigError(f"{says}; delete it and run the stage again ({path}: {a.get(path)}, now {b.get(path)})")


def _up_to_date(run: Run, saved: dict[str, Any]) -> dict[str, Any]:
    """`saved` as this version writes it; as it is if this version cannot read it, so that it differs from all else."""
    with warnings.catch_warnings(), contextlib.suppress(ConfigError, KeyError, TypeError, AttributeError):
        warnings.simplefilter("ignore", FutureWarning)  # old names: nobody can change them in this file
        modalities = {}
        for name, fields in saved["model"]["modalities"].items():
            present = run.codi[name].config
            others = {key: value for key, value in to_dict(present).items() if key in _OTHER_STAGES}
            modalities[name] = _encoding(from_dict(type(present), {**others, **fields}))
        model = {**saved["model"], "modalities": modalities}
        return json.loads(json.dumps({**saved, "source": effective_config(saved["source"]), "model": model}))
    return saved


def _encoding(config: Any) -> dict[str, Any]:
    """The fields of a modality's config on which samples depend."""
    return {key: value for key, value in to_dict(config).items() if key not in _OTHER_STAGES}


class EncodedSamples:
    """The samples of several `encode` stages, one after the other: {modality: {field: [...]}}, see `Encoded`.

    Args:
      parts: the samples of each stage, and its null prompts by modality.
      presence: whether samples say in the field `present` if they have a modality.
      like: a sample with every modality, in which only shapes and dtypes count; None for those of the parts.

    Raises:
      ConfigError: samples of two stages have different shapes.
    """

    def __init__(
        self,
        parts: Sequence[tuple[Source, dict[str, np.ndarray]]],
        presence: bool,
        like: dict[str, Any] | None = None,
    ):
        self._parts, self._presence = list(parts), presence
        self._ends = np.cumsum([len(samples) for samples, _ in parts])
        self.like = like or self._common()

    def _common(self) -> dict[str, Any]:
        """One sample of all modalities."""
        like: dict[str, Any] = {}
        for samples, null in self._parts:
            for name, fields in samples[0].items():
                fields = {**fields, **({"null": null[name]} if name in null else {})}
                like.setdefault(name, fields)
                shapes = [{key: np.shape(x) for key, x in tree.items()} for tree in (like[name], fields)]
                if shapes[0] != shapes[1]:
                    raise ConfigError(f"encoded samples of {name} have different shapes: {shapes[0]} and {shapes[1]}")
        return like

    def __len__(self) -> int:
        return int(self._ends[-1])

    def __getitem__(self, index: int) -> dict[str, Any]:
        return {name: {key: x[0] for key, x in fields.items()} for name, fields in self.read([index]).items()}

    def read(self, indices: Sequence[int] | np.ndarray) -> dict[str, Any]:
        """The samples `indices`, stacked."""
        indices = np.asarray(indices)
        part = np.searchsorted(self._ends, indices, side="right")
        starts, size = np.concatenate(([0], self._ends)), len(indices)
        out = {
            name: {key: np.zeros((size, *np.shape(x)), np.asarray(x).dtype) for key, x in fields.items()}
            for name, fields in self.like.items()
        }
        if self._presence:
            out = {name: {**fields, "present": np.zeros(size, np.float32)} for name, fields in out.items()}
        for k in np.unique(part).tolist():
            (samples, null), rows = self._parts[k], np.flatnonzero(part == k)
            for name, fields in read_batch(samples, indices[rows] - starts[k]).items():
                for key, values in fields.items():
                    out[name][key][rows] = values
                if name in null:
                    out[name]["null"][rows] = null[name]
                if self._presence:
                    out[name]["present"][rows] = 1
        return out


def stages_of(run: Run, named: str | tuple[str, ...]) -> tuple[str, ...]:
    """The `encode` stages that are read as the source of a stage; none if it reads media.

    Raises:
      ConfigError: a mixture names a stage that is no `encode` stage, or mixes encoded samples with media.
    """
    if not isinstance(named, str):
        return named
    if named not in run.config.sources:
        return (named,)
    parts = dict(run.config.sources[named].items()).get("parts", {})
    stages = [dict(part.items()).get("stage") for part in parts.values() if hasattr(part, "items")]
    for stage in filter(None, stages):
        if stage not in run.stages or run.stage(stage).trains:
            raise ConfigError(f"config.sources.{named}: there is no encode stage {stage!r}")
    if any(stages) and not all(stages):
        raise ConfigError(f"config.sources.{named}: a mixture is of encode stages or of other sources, not of both")
    return tuple(filter(None, stages))


def is_mixed(run: Run, named: str | tuple[str, ...]) -> bool:
    """Whether the samples of a source are of several `encode` stages, so that they may lack modalities."""
    return not isinstance(named, str) or (named in run.config.sources and bool(stages_of(run, named)))


def source(run: Run, named: str | tuple[str, ...]) -> Source:
    """The source of a stage that reads `encode` stages; samples in files of records are read on demand.

    Raises:
      ConfigError: a stage has no samples, or they were computed from other weights or data.
    """
    stages = stages_of(run, named)
    parts = {name: _part(run, name) for name in dict.fromkeys(stages)}
    samples = EncodedSamples([parts[name] for name in stages], is_mixed(run, named))
    if not isinstance(named, str) or named not in run.config.sources:
        return samples
    rest = {key: value for key, value in run.config.sources[named].items() if key != "name"}
    config = from_dict(MixtureConfig, rest, f"sources.{named}")
    return make_mixture(config, lambda part, _: EncodedSamples([parts[part["stage"]]], True, samples.like))


def load(run: Run, name: str) -> dict[str, Any]:
    """All samples of an `encode` stage, in memory: {modality: {field: [N, …]}}.

    Raises:
      ConfigError: as `source`.
    """
    samples, _ = _part(run, name)
    return read_batch(samples, range(len(samples)))


def _part(run: Run, name: str) -> tuple[Source, dict[str, np.ndarray]]:
    """The samples and the null prompts of an `encode` stage."""
    directory = run.directory(name)
    try:
        marker = json.loads((directory / MARKER).read_text())
        check_origin(run, marker, origin(run, name), f"{directory} was computed from other weights or data")
        null = {modality: np.asarray(values, np.float32) for modality, values in marker["null"].items()}
        samples = NpyRecords(directory / "records") if marker["records"] else _arrays(directory)
        if len(samples) != marker["samples"]:
            raise ConfigError(f"{directory} holds {len(samples)} of {marker['samples']} samples; run the stage again")
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        if isinstance(error, ConfigError):
            raise
        raise ConfigError(f"stage {name!r}: no readable arrays in {directory} ({error})") from error
    return samples, null


def _arrays(directory: Path) -> Arrays:
    try:
        with (directory / "arrays.npz").open("rb") as stream, np.load(stream, allow_pickle=False) as file:
            return Arrays(paths.nest(dict(file)))
    except Exception as error:  # zipfile and numpy raise what they like: NotImplementedError, tokenize.TokenError
        raise ValueError(first_line(error)) from error
