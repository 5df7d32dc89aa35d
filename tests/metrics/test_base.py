"""The protocol of metrics: the numbers do not depend on how the samples are split into batches and processes."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from codi_jax.metrics.agreement import Agreement
from codi_jax.metrics.av_align import AVAlign
from codi_jax.metrics.base import compute, merge_processes
from codi_jax.metrics.cosine import PairedCosine
from codi_jax.metrics.diversity import WithinClassDiversity, moments
from codi_jax.metrics.fad import FrechetAudioDistance
from codi_jax.metrics.fid import fid
from codi_jax.metrics.fid_infinity import FIDInfinity
from codi_jax.metrics.frechet import FrechetDistance, fit
from codi_jax.metrics.frechet import moments as frechet_moments
from codi_jax.metrics.inception_score import InceptionScore
from codi_jax.metrics.kid import KernelDistance
from codi_jax.metrics.lag_curve import LagCurve
from codi_jax.metrics.neighbours import NearestDistance
from codi_jax.metrics.offset import Offset
from codi_jax.metrics.precision_recall import PrecisionRecall
from codi_jax.metrics.sim import OutputSimilarity, Tower
from codi_jax.metrics.synchrony import Strengths
from codi_jax.metrics.tagger_kl import TaggerKL

RNG = np.random.default_rng(0)
READINGS = RNG.integers(-1, 4, (2, 24))
FEATURES = RNG.normal([0.0, 1e3, -5.0], size=(24, 3))  # a mean far above the deviation
CLASSES = np.arange(24) % 3 - 1
TIMES = np.where(RNG.uniform(size=(2, 24)) < 0.2, np.nan, RNG.uniform(size=(2, 24)))
CENTRED = FEATURES - FEATURES.mean(0)
FLOW, ONSET = RNG.uniform(0, 3, (24, 15)), RNG.uniform(0, 3, (24, 90))
TOWERS = {"one": Tower(3, ("a", "b")), "other": Tower(3, ("b", "c"))}
CASES = {
    "agreement": (Agreement(2, 4), lambda a, b: list(READINGS[:, a:b])),
    "av_align": (AVAlign(8), lambda a, b: Strengths(FLOW[a:b], 0 * FLOW[a:b], ONSET[a:b])),
    "cosine": (PairedCosine(3, clip_score=True), lambda a, b: (CENTRED[a:b], CENTRED[::-1][a:b])),
    "fad": (FrechetAudioDistance(frechet_moments(FEATURES[::2] * 1.1)), lambda a, b: FEATURES[a:b, None]),
    "lag_curve": (LagCurve(8, 2.0), lambda a, b: Strengths(FLOW[a:b], 0 * FLOW[a:b], ONSET[a:b])),
    "sim": (
        OutputSimilarity(TOWERS),
        lambda a, b: {
            name: {x: np.roll(CENTRED, k, 1)[a:b] for k, x in enumerate(tower.outputs)}
            for name, tower in TOWERS.items()
        },
    ),
    "tagger_kl": (TaggerKL(), lambda a, b: (CENTRED[a:b], CENTRED[::-1][a:b])),
    "frechet": (FrechetDistance(fit(FEATURES[::2] * 1.1)), lambda a, b: FEATURES[a:b]),
    "offset": (Offset({"near": 0.1, "far": 0.5}), lambda a, b: (TIMES[0, a:b], TIMES[1, a:b])),
    "diversity": (
        WithinClassDiversity(moments(FEATURES * 1.5, CLASSES, 2, 3)),
        lambda a, b: (FEATURES[a:b], CLASSES[a:b]),
    ),
    "fid": (fid(fit(FEATURES[::2] * 1.1)), lambda a, b: FEATURES[a:b]),
    "fid_infinity": (FIDInfinity(fit(FEATURES), points=3, smallest=5, limit=24), lambda a, b: FEATURES[a:b] * 1.1),
    "inception_score": (InceptionScore(3), lambda a, b: FEATURES[a:b] * [1, 1e-3, 1]),
    "kid": (KernelDistance(FEATURES[::2] + 1, subsets=3, size=5, limit=24), lambda a, b: FEATURES[a:b]),
    "precision_recall": (PrecisionRecall(FEATURES[::2] + 1, k=2, limit=24), lambda a, b: FEATURES[a:b]),
    "neighbours": (NearestDistance(np.float32(FEATURES[::3] + 1)), lambda a, b: np.float32(FEATURES[a:b])),
}


@pytest.mark.parametrize("case", CASES)
@given(cuts=st.lists(st.integers(1, 23), unique=True, max_size=5).map(sorted), split=st.integers(0, 6))
def test_batches_and_processes_give_the_numbers_of_the_whole(case, cuts, split):
    metric, batch = CASES[case]
    edges = [0, *cuts, 24]
    batches = [batch(a, b) for a, b in pairwise(edges)]
    whole = compute(metric, [batch(0, 24)])
    assert compute(metric, batches) == pytest.approx(whole, rel=1e-9)
    first, second = metric.init(), metric.init()  # of two processes, one of which may have no samples
    for part in batches[:split]:
        first = metric.update(first, part)
    for part in batches[split:]:
        second = metric.update(second, part)
    assert metric.compute(metric.merge(first, second)) == pytest.approx(whole, rel=1e-9)


def test_one_process_has_the_state_of_all():
    metric, batch = CASES["frechet"]
    state = metric.update(metric.init(), batch(0, 24))
    assert metric.compute(merge_processes(metric, state)) == metric.compute(state)
