"""SIM is the mean of the cosines of every pair of outputs by every tower."""

import numpy as np
import pytest

from codi_jax.metrics.base import compute
from codi_jax.metrics.cosine import PairedCosine
from codi_jax.metrics.sim import OutputSimilarity, Tower

RNG = np.random.default_rng(0)
METRIC = OutputSimilarity({"clip": Tower(4, ("image", "text", "video")), "clap": Tower(3, ("audio", "text"))})
BATCH = {
    "clip": {"image": RNG.normal(size=(6, 4)), "text": RNG.normal(size=(6, 4)), "video": RNG.normal(size=(6, 2, 4))},
    "clap": {"audio": RNG.normal(size=(6, 3)), "text": RNG.normal(size=(6, 3))},
}


def test_every_pair_of_every_tower():
    numbers = compute(METRIC, [BATCH])
    pairs = {"clip": [("image", "text"), ("image", "video"), ("text", "video")], "clap": [("audio", "text")]}
    cosines, shuffled = [], []
    for tower, outputs in pairs.items():
        for a, b in outputs:
            one = compute(PairedCosine(METRIC.towers[tower].size), [(BATCH[tower][a], BATCH[tower][b])])
            for name in ("cosine", "shuffled", "standard_error"):
                assert numbers[f"{tower}/{a}+{b}/{name}"] == pytest.approx(one[name])
            cosines.append(one["cosine"])
            shuffled.append(one["shuffled"])
    assert numbers["sim"] == pytest.approx(np.mean(cosines)) and numbers["shuffled"] == pytest.approx(np.mean(shuffled))
    assert numbers["n"] == 6 and len(numbers) == 3 + 4 * 3


def test_outputs_that_share_their_content_are_above_the_control():
    content = np.random.default_rng(1).normal(size=(50, 8))
    noisy = {name: content + np.random.default_rng(k).normal(size=(50, 8)) for k, name in enumerate("ab", 2)}
    numbers = compute(OutputSimilarity({"one": Tower(8, ("a", "b"))}), [{"one": noisy}])
    assert numbers["sim"] > 0.3 > 0.1 > abs(numbers["shuffled"])


def test_bad_batches_are_named():
    with pytest.raises(ValueError, match=r"expected embeddings by clip of image, clip of text, .*; got clap of audio"):
        compute(METRIC, [{"clap": BATCH["clap"]}])
    short = {**BATCH, "clap": {name: x[:5] for name, x in BATCH["clap"].items()}}
    with pytest.raises(ValueError, match=r"as many samples of every output, got \[5, 6\]"):
        compute(METRIC, [short])
    with pytest.raises(ValueError, match="at least two outputs"):
        OutputSimilarity({"clip": Tower(4, ("image",))})
