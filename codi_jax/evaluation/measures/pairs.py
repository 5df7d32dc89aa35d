"""Agreement of the modalities of one sample, by networks that embed both into one space.

    cosine       CLIPSIM and the CLAP score, of pairs of modalities, beside that of other samples (`metrics.cosine`)
    retrieval    in both directions, at 1, 5 and 10
    sim          the mean over pairs of modalities and over networks (`metrics.sim`), if there is more than one pair

A modality that the samples lack is taken from the real side if that has it for the same keys: the captions that images
were generated from. What was generated together is in `sim`, which takes none from there.
"""

from collections.abc import Iterator
from itertools import combinations

import numpy as np

from codi_jax.config import ConfigError
from codi_jax.data.decoded_source import KINDS
from codi_jax.evaluation.measures.base import BLOCK, Case, Measure, Result, bounds, resamples, split
from codi_jax.evaluation.study import REAL, SAMPLES, Study
from codi_jax.metrics.base import compute
from codi_jax.metrics.bootstrap import bootstrap
from codi_jax.metrics.cosine import PairedCosine, cosines
from codi_jax.metrics.retrieval import RECALL_AT, Retrieval
from codi_jax.metrics.sim import OutputSimilarity, Tower

_Pair = tuple[np.ndarray, np.ndarray]


def _pairs(study: Study, least: int = 1) -> Iterator[Case]:
    if len(study.samples) < least:
        return
    for label, named in study.networks.items():
        if named.network.joint:
            for pair in combinations([name for name in KINDS if name in named.network.modalities], 2):
                sides = tuple(study.partner(name) if any(map(study.has, pair)) else None for name in pair)
                if None not in sides:
                    yield Case(pair, label, tuple(side for side in sides if side))


def _embeddings(study: Study, case: Case) -> _Pair:
    a, b = (
        _checked(study, side, case.label, name, study.embeddings(side, case.label, name))
        for name, side in zip(case.on, case.sides, strict=True)
    )
    return a, b


def _checked(study: Study, side: str, label: str, modality: str, rows: np.ndarray) -> np.ndarray:
    """The rows. Raises ConfigError if one has no direction."""
    if (zero := ~np.asarray(rows).any(1)).any():
        key = study.samples.keys[int(zero.argmax())]
        raise ConfigError(f"{study.side(side).path}: the {modality} of sample {key} has a zero embedding by {label}")
    return rows


def _notes(case: Case) -> tuple[str, ...]:
    return tuple(f"{name} is that of --real" for name, side in zip(case.on, case.sides, strict=True) if side == REAL)


def _cosine(study: Study, case: Case) -> Result:
    a, b = _embeddings(study, case)
    n = len(a)
    blocks = ((a[start : start + BLOCK], b[start : start + BLOCK]) for start in range(0, n, BLOCK))
    found = dict(compute(PairedCosine(a.shape[1]), blocks))
    numbers, details = split(found, ("cosine", "shuffled"))
    intervals = {}
    if count := resamples(study.settings, float(n)):
        each = cosines(a, b)
        drawn = bootstrap(
            lambda rows: {"cosine": float(each[rows].mean())}, n, resamples=count, seed=study.settings.seed
        )
        intervals["cosine"] = bounds(drawn["cosine"])
    return Result(numbers, n, None, intervals, _notes(case), details=details)


def _retrieval(study: Study, case: Case) -> Result:
    a, b = _embeddings(study, case)
    first, second = case.on
    found = compute(Retrieval((first, second)), [(a, b)])
    ways = (f"{first}_to_{second}", f"{second}_to_{first}")
    numbers, details = split(
        {name: x for name, x in found.items() if not name.endswith("/n")},
        [f"{way}/recall_{k}" for way in ways for k in RECALL_AT],
    )
    notes = (*_notes(case), f"by chance recall at 1 is {1 / len(a):.2g}")
    return Result(numbers, len(a), None, {}, notes, details=details)


def _towers(study: Study) -> dict[str, tuple[str, ...]]:
    """Label -> modalities of the samples that it embeds, at least two."""
    found = {
        label: tuple(name for name in KINDS if study.has(name) and name in named.network.modalities)
        for label, named in study.networks.items()
        if named.network.joint
    }
    return {label: names for label, names in found.items() if len(names) > 1}


def _together(study: Study) -> Iterator[Case]:
    towers = _towers(study)
    if sum(len(names) - 1 for names in towers.values()) > 1:
        yield Case(tuple(name for name in KINDS if any(name in names for names in towers.values())), "+".join(towers))


def _sim(study: Study, case: Case) -> Result:
    rows = {
        label: {name: _checked(study, SAMPLES, label, name, study.embeddings(SAMPLES, label, name)) for name in names}
        for label, names in _towers(study).items()
    }
    metric = OutputSimilarity({label: Tower(next(iter(of.values())).shape[1], tuple(of)) for label, of in rows.items()})
    n = len(study.samples)
    batches = (
        {label: {name: x[start : start + BLOCK] for name, x in of.items()} for label, of in rows.items()}
        for start in range(0, n, BLOCK)
    )
    found = compute(metric, batches)
    numbers, details = split(found, ("sim", "shuffled"))
    return Result(numbers, n, details=details)


_NEEDS = "two modalities of each sample (or one, and the other in --real for the same keys), and --networks=tower=MODEL"
MEASURES = {
    "cosine": Measure(_NEEDS, _pairs, _cosine),
    "retrieval": Measure(f"at least two samples of {_NEEDS}", lambda study: _pairs(study, 2), _retrieval),
    "sim": Measure(
        "three modalities of each sample, or two and two towers that embed them; --networks=tower=MODEL",
        _together,
        _sim,
    ),
}
