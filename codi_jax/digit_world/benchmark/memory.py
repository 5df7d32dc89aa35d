"""Memorisation: distances of the outputs to the nearest samples that their denoiser was trained on.

See `metrics.neighbours` for the measure and `benchmark.outputs` for the outputs and their space. They are compared with
real test samples, of glyphs and speakers that no denoiser has seen. Two more rows say what a ratio is to be compared
with: the same test samples after the codec, which smooths them, and fresh samples of the training distribution, which
have the glyphs and speakers of training but other colours, positions, onsets and noise. A perfect model has the numbers
of the fresh samples.

Captions are compared word by word: the share that occurs in training, as a caption or as a prompt. Test captions have
wordings that never do, validation captions have those of training, of other factors and choices.
"""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from typing import Any

import numpy as np

from codi_jax.codi import CoDi
from codi_jax.data.source import Source, make_source, read_batch
from codi_jax.digit_world.benchmark.outputs import flat, or_none, outputs
from codi_jax.digit_world.benchmark.samples import array
from codi_jax.metrics.intervals import wilson
from codi_jax.metrics.neighbours import PERCENTILES, NearestDistance, memorisation, verbatim_share
from codi_jax.train.recipe import named_sources

CHUNK = 500  # training samples in memory
FRESH_SEED = 1_000_003  # added to the seed of a pool


@dataclasses.dataclass(frozen=True)
class Training:
    """What the denoiser of a modality was trained on.

    Attributes:
      pools: its sources.
      fresh: a source of the same distribution with other samples; None if it is not one of the world.
      validation: a source of captions in trained wordings; None likewise.
    """

    pools: tuple[Source, ...]
    fresh: Source | None
    validation: Source | None


def _pools(config: Any, stage_or_source: str | tuple[str, ...]) -> Iterator[str]:
    """The sources that a stage's source leads to, through stages that encode them."""
    stages = {f"{group}.{leaf}": stage for group, named in config.stages.items() for leaf, stage in named.items()}
    for name in named_sources(stage_or_source):
        if name in config.sources:
            yield name
        else:
            yield from _pools(config, stages[name].source)


def training(config: Any, names: Sequence[str]) -> dict[str, Training]:
    """What each modality's denoiser was trained on; without those that no `ldm` stage of the run trains.

    Args:
      config: the RunConfig.
      names: modalities.
    """

    def changed(name: str, **fields: Any) -> Source | None:
        source = dict(config.sources[name])
        return make_source({**source, **fields}, f"sources.{name}") if source["name"] == "digit_world" else None

    out = {}
    for stage in (stage for named in config.stages.values() for stage in named.values()):
        name = stage.modalities[0]
        if stage.objective == "ldm" and name in names:
            pools = list(dict.fromkeys(_pools(config, stage.source)))
            seed = config.sources[pools[0]].get("seed", 0) + FRESH_SEED
            validation = {"split": "val", "wordings": "trained", "modalities": ("text",)} if name == "text" else None
            out[name] = Training(
                tuple(make_source(config.sources[pool], f"sources.{pool}") for pool in pools),
                None if validation else changed(pools[0], seed=seed),
                changed(config.evaluate["seen"], **validation) if validation else None,
            )
    return {name: out[name] for name in names if name in out}


def _chunks(sources: Sequence[Source], number: int) -> Iterator[Any]:
    """The first `number` samples of every source, in batches."""
    for source in sources:
        size = min(number, len(source))
        for start in range(0, size, CHUNK):
            yield read_batch(source, range(start, min(start + CHUNK, size)))


def _vectors(codi: CoDi, name: str, batch: Any) -> np.ndarray:
    return flat(array(codi[name].raw_from_batch(batch)))


def _of_captions(of: Training, generated: Mapping[str, Sequence[str]], number: int, n: int) -> dict[str, Any]:
    known: set[str] = set()
    size = 0
    for batch in _chunks(of.pools, number):
        known.update(map(str, chain(*batch["text"].values())))
        size += len(batch["text"]["caption"])
    captions = dict(generated)
    if of.validation is not None:
        captions["validation"] = list(map(str, read_batch(of.validation, range(n))["text"]["caption"]))
    rows = {title: (len(texts), verbatim_share(list(map(str, texts)), known)) for title, texts in captions.items()}
    return {
        "training": size,
        "outputs": {
            title: {"n": k, "verbatim": share, "interval": list(wilson(share, k))} for title, (k, share) in rows.items()
        },
    }


def measure(codi: CoDi, name: str, of: Training, samples: Mapping[str, Any], number: int) -> dict[str, Any]:
    """The memorisation of one modality.

    Args:
      codi: the model.
      name: the modality.
      of: what its denoiser was trained on.
      samples: those of samples.npz as nested dicts, see `benchmark.run`.
      number: number of training samples of every pool, the first ones.

    Returns:
      {"training": number of training samples, "outputs": {title: row}}. Titles are those of the outputs, "real" (test
      samples), "codec" (test samples after the codec), "fresh" or "validation". A row of text is {"n", "verbatim",
      "interval"}, others {"n", "median", "ratio", "near_1", "near_5"} and the intervals (95 %) of these two.
    """
    real = samples["real"]["seen"]["values"][name]
    generated = {"real": real}
    if codec := samples.get("codec"):
        generated["codec"] = codec[name]["values"]
    generated |= {o.title: o.values for o in outputs(samples) if o.modality == name}
    if real.dtype.kind == "U":
        return _of_captions(of, generated, number, len(real))
    vectors = {title: flat(values) for title, values in generated.items()}
    if of.fresh is not None:
        vectors["fresh"] = _vectors(codi, name, read_batch(of.fresh, range(len(real))))
    metric = NearestDistance(np.concatenate(list(vectors.values())))
    state, size = metric.init(), 0
    for batch in _chunks(of.pools, number):
        chunk = _vectors(codi, name, batch)
        state, size = metric.update(state, chunk), size + len(chunk)
    ends = np.cumsum([len(x) for x in vectors.values()])
    distances = dict(zip(vectors, np.split(state, ends[:-1]), strict=True))
    return {"training": size, "outputs": {title: _row(d, distances["real"]) for title, d in distances.items()}}


def _row(distances: np.ndarray, real: np.ndarray) -> dict[str, Any]:
    numbers, n = memorisation(distances, real), len(distances)
    near = {f"near_{p}": numbers[f"near_{p}"] for p in PERCENTILES}
    intervals = {f"{key}_interval": list(wilson(share, n)) for key, share in near.items()}
    return {"n": n, "median": numbers["median"], "ratio": or_none(numbers["ratio"]), **near, **intervals}


def summary(cell: Mapping[str, Any]) -> str:
    """One line for the log."""
    rows = {title: row for title, row in cell["outputs"].items() if title != "real"}
    key, unit = ("verbatim", "") if "verbatim" in cell["outputs"]["real"] else ("ratio", "x real")
    numbers = "  ".join(f"{title} {row[key]:.2f}{unit}" for title, row in rows.items() if row[key] is not None)
    return f"{cell['training']} training samples  {numbers}"
