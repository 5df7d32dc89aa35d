"""Synchrony of audio and video: AV-Align and the lag curve, with their controls.

The samples are read in random order, since AV-Align's control pairs each video with the audio of the next sample.
"""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from codi_jax.config import ConfigError
from codi_jax.evaluation.measures.base import Case, Measure, Result, split
from codi_jax.evaluation.motion import SYNCHRONY
from codi_jax.evaluation.study import Study
from codi_jax.metrics.av_align import AVAlign
from codi_jax.metrics.base import compute
from codi_jax.metrics.lag_curve import LagCurve
from codi_jax.metrics.synchrony import Strengths

_BLOCK = 256  # samples
MAX_LAG = 0.5  # seconds


def _cases(study: Study) -> Iterator[Case]:
    if all(map(study.has, SYNCHRONY)):
        yield Case(SYNCHRONY)


def _blocks(study: Study) -> Iterator[Strengths]:
    strengths = study.strengths()
    order = np.random.default_rng([study.settings.seed, 1]).permutation(len(strengths.flow))
    for start in range(0, len(order), _BLOCK):
        yield Strengths(*(rows[order[start : start + _BLOCK]] for rows in strengths))


def _result(study: Study, found: Mapping[str, float], names: Sequence[str]) -> Result:
    numbers, details = split(found, names)
    return Result(numbers, int(found["n"]), options=study.motion.options, details=details)


def _av_align(study: Study, case: Case) -> Result:
    capacity = max(256, study.motion.frames, round(study.motion.seconds * 44))
    metric = AVAlign(study.motion.frame_rate, capacity=capacity)
    return _result(study, compute(metric, _blocks(study)), ("av_align", "shuffled", "still"))


def _lag_curve(study: Study, case: Case) -> Result:
    seconds = study.motion.seconds
    if seconds <= 0.1:
        raise ConfigError(f"lag_curve: audio and video of the samples have {seconds:.3g} s in common, less than 0.1 s")
    metric = LagCurve(study.motion.frame_rate, seconds, max_lag=min(MAX_LAG, seconds / 2))
    return _result(study, compute(metric, _blocks(study)), ("peak", "lag", "shuffled_peak", "still_share"))


_NEEDS = "audio and video of each sample"
MEASURES = {
    "av_align": Measure(_NEEDS, _cases, _av_align),
    "lag_curve": Measure(_NEEDS, _cases, _lag_curve),
}
