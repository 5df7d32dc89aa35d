"""AV-Align by hand, its controls, and what it ignores."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from codi_jax.metrics.av_align import AVAlign, intersection_over_union, motion_times
from codi_jax.metrics.base import compute
from codi_jax.metrics.onsets import ONSET_RATE
from codi_jax.metrics.synchrony import Strengths

RATE = 10  # frames per second
times = st.lists(st.integers(0, 40), max_size=12, unique=True).map(lambda x: np.sort(x) / 10)


def series(flow_frames, onset_frames, still=0.0):
    """Strengths of samples: motion of 2 pixels into these frames of 20, onsets in these frames of 86, one list each."""
    flow, onset = np.zeros((len(flow_frames), 19)), np.zeros((len(onset_frames), 86))
    for row, at in zip(flow, flow_frames, strict=True):
        row[np.array(at, int) - 1] = 2
    for row, at in zip(onset, onset_frames, strict=True):
        row[at] = 5
    return Strengths(flow, np.full_like(flow, still), onset)


def test_union_and_intersection_by_hand():
    a, b = np.array([0.1, 0.5, 0.9]), np.array([0.15, 0.52, 0.54, 1.4])
    assert intersection_over_union(a, b, 0.1) == pytest.approx(2 / 5)  # one peak to one onset
    assert intersection_over_union(a, b, 0.03) == pytest.approx(1 / 6)
    assert intersection_over_union(np.array([0.0]), np.array([0.25]), 0.25) == 0  # less, not at most
    assert intersection_over_union(a, np.array([]), 0.1) == intersection_over_union(a[:0], a[:0], 0.1) == 0


@given(times, times, st.integers(1, 30))
def test_the_score_is_symmetric_and_unchanged_by_a_common_shift(a, b, width):
    window = width / 10 - 0.05
    score = intersection_over_union(a, b, window)
    assert 0 <= score <= 1
    assert intersection_over_union(b, a, window) == score
    assert intersection_over_union(a + 0.25, b + 0.25, window) == score
    assert intersection_over_union(a, a, window) == (1 if len(a) else 0)
    assert intersection_over_union(a, b, window + 1) >= score


def test_peaks_of_motion():
    flow = np.array([3.0, 0, 1, 0, 2, 2, 0, 0.05, 0, 4])
    # The ends and what is below 0.1 do not count; equal values are one peak in their middle.
    np.testing.assert_allclose(motion_times(flow, RATE), [0.3, 0.55])


def test_a_metric_by_hand():
    onset = round(0.5 * ONSET_RATE), round(1.0 * ONSET_RATE), round(1.5 * ONSET_RATE)
    batch = series([[5, 15], [10], [5]], [[onset[0]], [onset[1]], [onset[1], onset[2]]])
    numbers = compute(AVAlign(RATE), [batch])
    scores = [1 / 2, 1, 0]
    assert numbers["av_align"] == pytest.approx(np.mean(scores)) and numbers["n"] == 3
    assert numbers["standard_error"] == pytest.approx(np.std(scores, ddof=1) / np.sqrt(3))
    # Videos 0, 1, 2 with the audio of 1, 2, 0.
    assert numbers["shuffled"] == pytest.approx(np.mean([0, 1 / 2, 1]))
    assert numbers["onsets"] == numbers["peaks"] == pytest.approx(4 / 3)
    assert numbers["motion"] == pytest.approx(2 * (4 / 3) / 19)
    assert numbers["still"] == 0


def test_batches_are_one_sequence():
    rng = np.random.default_rng(0)
    draws = [[rng.choice(np.arange(2, 18), 3, replace=False) for _ in range(9)] for _ in range(2)]
    whole = series(draws[0], [np.asarray(d) * 4 for d in draws[1]])
    numbers = compute(AVAlign(RATE), [whole])
    for cut in (1, 4, 8):
        parts = [Strengths(*(x[:cut] for x in whole)), Strengths(*(x[cut:] for x in whole))]
        assert compute(AVAlign(RATE), parts) == pytest.approx(numbers)
    assert 0 < numbers["shuffled"] < 1


def test_a_nearly_still_video_in_perfect_step_does_not_count():
    frames = [round(0.5 * ONSET_RATE)]
    batch = series([[5]] * 4, [frames] * 4)
    assert compute(AVAlign(RATE), [batch])["av_align"] == 1
    faint = batch._replace(flow=batch.flow / 40)  # 0.05 pixels per frame
    numbers = compute(AVAlign(RATE), [faint])
    assert numbers["av_align"] == numbers["still"] == 0 and numbers["peaks"] == 0


def test_the_still_control_is_measured():
    """An estimator that finds motion in still videos shows."""
    batch = series([[5]] * 3, [[round(0.5 * ONSET_RATE)]] * 3)
    assert compute(AVAlign(RATE), [batch._replace(still=batch.flow)])["still"] == 1


def test_bad_input_is_named():
    batch = series([[5]], [[20]])
    with pytest.raises(ValueError, match=r"flow \[n, T - 1\], still \[n, T - 1\] and onset \[n, F\], got"):
        compute(AVAlign(RATE), [batch._replace(onset=np.zeros((2, 9)))])
    with pytest.raises(ValueError, match="negative or not finite"):
        compute(AVAlign(RATE), [batch._replace(flow=-batch.flow)])
    with pytest.raises(ValueError, match="raise capacity, 1"):
        compute(AVAlign(RATE, capacity=1), [series([[5, 9]], [[20]])])
    with pytest.raises(ValueError, match="frame_rate 0 and window None must be positive"):
        AVAlign(0)
    with pytest.raises(ValueError, match="no samples"):
        compute(AVAlign(RATE), [])
