"""CIDEr-D by hand, and with given frequencies."""

import math

import numpy as np
import pytest

from codi_jax.metrics.base import compute
from codi_jax.metrics.captions import Captions, CiderD
from codi_jax.metrics.captions.cider import DocumentFrequencies, document_frequencies

TWO = Captions(["a cat sat", "a dog dog"], [["a cat", "a cat sat"], ["a dog ran fast"]])


def test_two_images_by_hand():
    """ "a" is in both images and has the weight 0, every other n-gram is in one or none and has ln 2 = w.

    First hypothesis, with the reference "a cat" (lengths 3 and 2): 1-grams (cat, sat) · (cat) / (√2 · 1) = 1/√2;
    2-grams ("a cat", "cat sat") · ("a cat") = 1/√2; no 3-gram in the reference: 0. With "a cat sat": 1, 1, 1, 0.
    Second hypothesis, "a dog dog" and "a dog ran fast" (lengths 3 and 4): 1-grams dog 2w, clipped to w, of norms 2w and
    √3 w: w² / (2√3 w²); 2-grams ("a dog", "dog dog") and ("a dog", "dog ran", "ran fast"): 1 / √6; others 0.
    """
    penalty = math.exp(-1 / 72)
    first = 10 / 4 * (penalty * math.sqrt(2) + 3) / 2
    second = 10 / 4 * penalty * (1 / (2 * math.sqrt(3)) + 1 / math.sqrt(6))
    metric = CiderD()
    state = metric.update(metric.init(), TWO)
    assert metric.scores(state).tolist() == pytest.approx([first, second])
    assert metric.compute(state) == pytest.approx({"cider_d": (first + second) / 2, "n": 2})


def test_an_equal_hypothesis_has_10_if_its_ngrams_are_rare():
    captions = ["a b c d", "e f g h i"]
    assert compute(CiderD(), [Captions(captions, [[c] for c in captions])])["cider_d"] == pytest.approx(10)
    assert compute(CiderD(), [Captions(captions[:1], [captions[:1]])])["cider_d"] == 0  # ln 1 = 0


def test_given_frequencies_replace_those_of_the_corpus():
    frequencies = document_frequencies(TWO.references)
    assert frequencies.number == 2
    assert frequencies.counts[("a",)] == 2 and frequencies.counts[("a", "cat")] == 1 and len(frequencies.counts) == 15
    metric = CiderD(frequencies)
    whole = CiderD()
    expected = whole.scores(whole.update(whole.init(), TWO))
    alone = [
        metric.scores(metric.update(metric.init(), Captions(TWO[0][i : i + 1], TWO[1][i : i + 1]))) for i in (0, 1)
    ]
    np.testing.assert_array_equal(np.concatenate(alone), expected)


def test_frequencies_and_settings_are_checked():
    with pytest.raises(ValueError, match="frequencies: an n-gram in 3 of 2 samples"):
        CiderD(DocumentFrequencies({("a",): 3}, 2))
    with pytest.raises(ValueError, match=r"frequencies: .* of 0 samples, at least one"):
        CiderD(document_frequencies([]))
    with pytest.raises(ValueError, match=r"sigma: 0.0 is not positive"):
        CiderD(sigma=0.0)
