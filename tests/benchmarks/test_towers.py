"""The benchmark of contrastive losses on eight devices."""

import pytest

from benchmarks import towers
from codi_jax.plan import target


@pytest.fixture(scope="module")
def rows():
    return {loss: towers.compiled(loss, target.virtual(8), 256) for loss in towers.LOSSES}


def test_the_ring_holds_less(rows):
    logits = 4 * (8 * 256) ** 2 / 8
    assert rows["all-gather"]["temporaries"] > logits + 4 * 8 * 256 * towers.WIDTH  # and the embeddings of all chips
    assert rows["ring"]["temporaries"] < rows["all-gather"]["temporaries"] / 3


def test_operations_and_collectives(rows):
    product = 2 * (8 * 256) ** 2 * towers.WIDTH / 8  # the logits, of a chip
    assert rows["all-gather"]["operations"] == pytest.approx(3 * product)
    assert rows["ring"]["operations"] == pytest.approx(4 * product)  # blocks are computed again
    assert "all-gather" in rows["all-gather"]["collectives"]
    assert set(rows["ring"]["collectives"]) == {"collective-permute", "all-reduce"}
