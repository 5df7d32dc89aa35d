"""The Inception score by hand, its bounds, its splits and its interval."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from codi_jax.metrics.base import compute
from codi_jax.metrics.bootstrap import bootstrap_metric
from codi_jax.metrics.inception_score import InceptionScore, inception_score, inception_score_interval

RNG = np.random.default_rng(0)
LOGITS = RNG.normal(size=(50, 6)) * 2


def test_by_hand():
    """(1, 0) and (½, ½): q = (¾, ¼), KL = ln 4/3 and ½ ln 4/3 : exp of the mean = (4/3)^¾."""
    p = np.array([[1, 0], [0.5, 0.5]])
    mean_kl = (np.log(4 / 3) + 0.5 * np.log(0.5 / 0.75) + 0.5 * np.log(0.5 / 0.25)) / 2
    found = compute(InceptionScore(2, logits=False), [p[:1], p[1:]])
    assert found == pytest.approx({"inception_score": np.exp(mean_kl), "n": 2})


@given(st.integers(2, 9), st.integers(1, 4))
def test_certain_and_even_classes_have_the_highest_score_and_one_class_the_lowest(classes, copies):
    certain = np.tile(np.eye(classes), (copies, 1))
    metric = InceptionScore(classes, logits=False)
    assert compute(metric, [certain])["inception_score"] == pytest.approx(classes)
    assert compute(metric, [certain[:1]])["inception_score"] == pytest.approx(1)
    assert compute(InceptionScore(classes), [np.zeros((3, classes))])["inception_score"] == pytest.approx(1)


@given(st.permutations(range(50)), st.floats(-1e4, 1e4))
def test_order_and_shifts_of_logits_do_not_matter(order, shift):
    whole = compute(InceptionScore(6), [LOGITS])["inception_score"]
    assert compute(InceptionScore(6), [LOGITS[list(order)] + shift])["inception_score"] == pytest.approx(whole)
    assert 1 <= whole <= 6


def test_splits_are_consecutive():
    parts = [LOGITS[:16], LOGITS[16:33], LOGITS[33:]]  # ⌊50 s / 3⌋
    scores = [compute(InceptionScore(6), [part])["inception_score"] for part in parts]
    expected = {"inception_score": np.mean(scores), "inception_score_std": np.std(scores), "n": 50}
    assert inception_score(LOGITS, 3) == pytest.approx(expected)
    assert inception_score(LOGITS, 1)["inception_score_std"] == 0
    assert inception_score(LOGITS, 3, seed=0) != pytest.approx(expected)
    sorted_classes = np.repeat(np.eye(5) * 50, 10, 0)  # each split has one class
    assert inception_score(sorted_classes, 5)["inception_score"] == pytest.approx(1)
    assert inception_score(sorted_classes, 5, seed=0)["inception_score"] > 3


def test_the_interval_is_the_bootstrap_of_the_metric():
    options = {"resamples": 30, "seed": 2, "centre": True}
    want = bootstrap_metric(InceptionScore(6), LOGITS, **options)["inception_score"]
    assert inception_score_interval(LOGITS, **options) == pytest.approx(want)
    clusters = np.arange(50) // 5
    want = bootstrap_metric(InceptionScore(6), LOGITS, clusters=clusters, **options)["inception_score"]
    assert inception_score_interval(LOGITS, clusters=clusters, **options) == pytest.approx(want)


def test_bad_arguments_are_one_line():
    with pytest.raises(ValueError, match=r"expected logits \[n, 1008\] with n >= 1, got shape \(50, 6\)"):
        compute(InceptionScore(), [LOGITS])
    with pytest.raises(ValueError, match="a sum of 1 per sample; for logits: logits=True"):
        compute(InceptionScore(6, logits=False), [LOGITS])
    with pytest.raises(ValueError, match="expected 1 to n = 50 splits, got 51"):
        inception_score(LOGITS, 51)
    with pytest.raises(ValueError, match="no samples to score"):
        compute(InceptionScore(6), [])
    with pytest.raises(ValueError, match=r"expected clusters of 50 samples, got shape \(7,\)"):
        inception_score_interval(LOGITS, clusters=np.arange(7))
