"""Distributions of features, of samples against real ones: FID, FID∞, KID, precision and recall, IS, FAD, and others.

    fid, kid, precision_recall, inception_score   images by Inception; fid_infinity above 5,000 of them
    fad                                           audio by VGGish, whose rows are patches, or any other network
    frechet                                       images by another network; videos by any, of the mean over frames

A Fréchet distance is named FVD only if the network is I3D, which is not here; so that of videos has the network's name.
"""

from collections.abc import Callable, Iterator, Sequence

import numpy as np

from codi_jax.evaluation.measures.base import (
    NO_INTERVAL,
    RESAMPLES,
    Case,
    Measure,
    Result,
    bounds,
    moments,
    resamples,
    row_blocks,
)
from codi_jax.evaluation.study import REAL, SAMPLES, Study
from codi_jax.metrics import frechet
from codi_jax.metrics.base import compute
from codi_jax.metrics.bootstrap import bootstrap_metric
from codi_jax.metrics.fad import FrechetAudioDistance
from codi_jax.metrics.fid import fid
from codi_jax.metrics.fid_infinity import FIDInfinity
from codi_jax.metrics.frechet import FrechetDistance
from codi_jax.metrics.inception_score import InceptionScore, inception_score, inception_score_interval
from codi_jax.metrics.kid import kid, kid_interval
from codi_jax.metrics.precision_recall import precision_recall, precision_recall_interval
from codi_jax.metrics.rows import Rows

INCEPTION = "inception"
SUBSET = 1000  # samples of a subset of KID
SMALLEST = 5000  # samples from which FID∞ is extrapolated
SPLITS = 10  # of the Inception score


def _networks(study: Study, modality: str) -> Iterator[tuple[str, bool]]:
    """The labels of the networks that read a modality, and whether each is Inception."""
    for label, named in study.networks.items():
        if modality in named.network.modalities:
            yield label, named.kind == INCEPTION


def _inception(least: int, real: bool = True) -> Callable[[Study], Iterator[Case]]:
    """Images by Inception, if there are enough, also of real ones if they are needed."""

    def cases(study: Study) -> Iterator[Case]:
        n, m = study.counts()
        if (study.both("image") and m >= least) if real else study.has("image"):
            yield from (
                Case(("image",), label) for label, inception in _networks(study, "image") if inception and n >= least
            )

    return cases


def _rows(study: Study, case: Case) -> tuple[np.ndarray, np.ndarray]:
    """The rows of samples and of real samples, memory maps."""
    (modality,) = case.on
    name = study.networks[case.label].network.features[0]
    found = (study.features(side, case.label, modality).values[name] for side in (SAMPLES, REAL))
    return next(found), next(found)


def _frechet_cost(n: int, size: int) -> float:
    """Multiplications of a Fréchet distance: the covariance, and eigenvalues of two matrices."""
    return n * size**2 + 30.0 * size**3


def _few(n: Sequence[int], size: int) -> tuple[str, ...]:
    least = min(n)
    return (f"{least} rows of {size} features: the distance of few rows is far too high",) if least <= size else ()


def _unaffordable(study: Study, count: int) -> tuple[str, ...]:
    """Says that there is no interval, unless the user wants none."""
    return () if count or study.settings.resamples == 0 else (NO_INTERVAL,)


def _distance(study: Study, metric: FrechetDistance, rows: np.ndarray, n_reference: int) -> Result:
    value = compute(metric, row_blocks(rows))
    n, size = rows.shape
    name = next(iter(value))
    count = resamples(study.settings, _frechet_cost(n, size))
    found = bootstrap_metric(metric, rows, resamples=count, seed=study.settings.seed, centre=True) if count else {}
    intervals = {name: bounds(found[name])} if found else {}
    notes = (*_few((n, n_reference), size), *_unaffordable(study, count))
    return Result({name: value[name]}, n, n_reference, intervals, notes)


def _fid(study: Study, case: Case) -> Result:
    rows, real = _rows(study, case)
    return _distance(study, fid(frechet.gaussian(moments(real))), rows, len(real))


def _fid_infinity(study: Study, case: Case) -> Result:
    rows, real = _rows(study, case)
    n = np.array(len(rows))
    metric = FIDInfinity(frechet.gaussian(moments(real)), smallest=SMALLEST, seed=study.settings.seed)
    found = metric.compute(Rows(n, n, rows))  # the state is the memory map itself
    return Result({"fid_infinity": found["fid_infinity"], "slope": found["slope"]}, len(rows), len(real))


def _kid(study: Study, case: Case) -> Result:
    rows, real = _rows(study, case)
    n, m, seed = len(rows), len(real), study.settings.seed
    subsets = 100 if min(n, m) >= SUBSET else 0
    values = kid(rows, real, subsets, SUBSET, seed)
    numbers = {name: values[name] for name in ("kid", "kid_std")[: 2 if subsets else 1]}
    intervals = {}
    count = resamples(study.settings, float((n + m) ** 2) * (1 + rows.shape[1] / RESAMPLES))
    if count:
        found = kid_interval(rows, real, resamples=count, seed=seed)
        name = "mmd2" if subsets else "kid"
        numbers[name], intervals[name] = found.value, bounds(found)
    how = f"mean of {subsets} subsets of {SUBSET}" if subsets else "of all samples, without subsets"
    return Result(numbers, n, m, intervals, (how, *_unaffordable(study, count)))


def _precision_recall(study: Study, case: Case) -> Result:
    rows, real = _rows(study, case)
    names = ("precision", "recall")
    if count := resamples(study.settings, len(rows) + len(real)):
        found = precision_recall_interval(rows, real, resamples=count, seed=study.settings.seed)
        return Result(
            {name: found[name].value for name in names},
            len(rows),
            len(real),
            {name: bounds(found[name]) for name in names},
        )
    numbers = precision_recall(rows, real)
    return Result({name: numbers[name] for name in names}, len(rows), len(real))


def _inception_score(study: Study, case: Case) -> Result:
    rows = study.features(SAMPLES, case.label, case.on[0]).values["logits"]
    n, classes = rows.shape
    numbers = {"inception_score": compute(InceptionScore(classes), row_blocks(rows))["inception_score"]}
    if n >= SPLITS:
        split = inception_score(rows, SPLITS)
        numbers["of_splits"], numbers["of_splits_std"] = split["inception_score"], split["inception_score_std"]
    intervals = {}
    if count := resamples(study.settings, float(n * classes)):
        intervals["inception_score"] = bounds(inception_score_interval(rows, resamples=count, seed=study.settings.seed))
    return Result(numbers, n, None, intervals)


def _audio(study: Study) -> Iterator[Case]:
    if study.both("audio") and min(study.counts()) >= 2:
        yield from (Case(("audio",), label) for label, _ in _networks(study, "audio"))


def _fad(study: Study, case: Case) -> Result:
    (modality,), settings = case.on, study.settings
    rows, real = _rows(study, case)
    metric = FrechetAudioDistance(moments(real))
    value = compute(metric, row_blocks(rows))["frechet_audio_distance"]
    n, size = rows.shape
    intervals = {}
    count = resamples(settings, _frechet_cost(n, size))
    if count:
        clusters = study.features(SAMPLES, case.label, modality).samples  # the patches of one file
        found = bootstrap_metric(metric, rows, clusters=clusters, resamples=count, seed=settings.seed, centre=True)
        intervals["fad"] = bounds(found["frechet_audio_distance"])
    notes = (*_few((n, len(real)), size), *_unaffordable(study, count))
    return Result({"fad": value}, n, len(real), intervals, notes)


def _others(study: Study) -> Iterator[Case]:
    for modality in ("image", "video"):
        if study.both(modality) and min(study.counts()) >= 2:
            for label, inception in _networks(study, modality):
                if modality == "video" or not inception:
                    yield Case((modality,), label)


def _frechet(study: Study, case: Case) -> Result:
    (modality,) = case.on
    name = study.networks[case.label].network.features[0]
    rows, real = (study.features(side, case.label, modality).means(name) for side in (SAMPLES, REAL))
    return _distance(study, FrechetDistance(frechet.gaussian(moments(real)), "frechet"), rows, len(real))


_IMAGES = "images in --samples and --real, and --networks=inception=FILE"
MEASURES = {
    "fid": Measure(f"at least two {_IMAGES}", _inception(2), _fid),
    "fid_infinity": Measure(f"more than {SMALLEST} {_IMAGES}", _inception(SMALLEST + 1), _fid_infinity),
    "kid": Measure(f"at least two {_IMAGES}", _inception(2), _kid),
    "precision_recall": Measure(f"at least four {_IMAGES}", _inception(4), _precision_recall),
    "inception_score": Measure("images, and --networks=inception=FILE", _inception(1, False), _inception_score),
    "fad": Measure(
        "at least two of audio in --samples and --real, and --networks=vggish=FILE or tower=MODEL", _audio, _fad
    ),
    "frechet": Measure(
        "at least two images or videos in --samples and --real, and --networks=tower=MODEL; for videos inception=FILE",
        _others,
        _frechet,
    ),
}
