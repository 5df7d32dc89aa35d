"""Numbers of retrieval by hand, of batches, on a mesh, and of embeddings that say nothing."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from codi_jax.metrics.base import compute
from codi_jax.metrics.ranks import Ranks
from codi_jax.metrics.retrieval import Embeddings, Retrieval, summary
from codi_jax.parallel import MeshConfig, make_mesh

RNG = np.random.default_rng(0)
A = RNG.normal(size=(9, 5))
GROUPS = np.repeat(np.arange(9), 2)
B = A[GROUPS] + RNG.normal(size=(18, 5))


def batch(i, j):
    """Items i to j with their two captions each."""
    return A[i:j], B[2 * i : 2 * j], GROUPS[2 * i : 2 * j] - i


def test_numbers_of_ranks_by_hand():
    numbers = summary(Ranks(np.array([1, 5, 6, 11]), np.array([0, 1, 0, 2])))
    assert numbers == {
        **{"recall_1": 0.25, "recall_5": 0.5, "recall_10": 0.75},
        **{"median_rank": 5.5, "mean_rank": 5.75, "tied": 0.5, "n": 4},
    }
    with pytest.raises(ValueError, match="no ranks to summarise"):
        summary(Ranks(np.zeros(0), np.zeros(0)))


@given(st.lists(st.integers(1, 8), unique=True, max_size=3).map(sorted))
def test_batches_give_the_numbers_of_the_whole(cuts):
    metric = Retrieval(("image", "text"))
    edges = [0, *cuts, 9]
    whole = compute(metric, [batch(0, 9)])
    parts = [batch(i, j) for i, j in pairwise(edges)]
    assert compute(metric, parts) == whole
    first, rest = metric.update(metric.init(), parts[0]), metric.init()  # of two processes
    for part in parts[1:]:
        rest = metric.update(rest, part)
    assert metric.compute(metric.merge(first, rest)) == whole
    assert whole["image_to_text/n"] == 9 and whole["text_to_image/n"] == 18
    assert 0 < whole["image_to_text/recall_1"] < 1


def test_a_mesh_gives_the_same_numbers():
    mesh = make_mesh(MeshConfig(data=4, fsdp=2))
    assert compute(Retrieval(mesh=mesh, tile=2), [batch(0, 9)]) == compute(Retrieval(), [batch(0, 9)])


@given(st.permutations(range(9)))
def test_the_order_of_pairs_does_not_matter(order):
    order = list(order)
    assert compute(Retrieval(), [(A[order], B[::2][order])]) == compute(Retrieval(), [(A, B[::2])])


def test_pairs_that_are_equal_are_found_and_constant_embeddings_are_not():
    found = compute(Retrieval(), [(A, 2 * A)])
    assert found["a_to_b/recall_1"] == found["b_to_a/recall_1"] == found["a_to_b/mean_rank"] == 1
    constant = compute(Retrieval(), [(np.ones((20, 3)), np.ones((20, 3)))])
    assert constant["a_to_b/recall_1"] == constant["b_to_a/recall_10"] == 0
    assert constant["a_to_b/median_rank"] == 20 and constant["a_to_b/tied"] == 1


def test_random_embeddings_are_found_by_chance():
    a, b = np.random.default_rng(1).normal(size=(2, 2000, 8))
    numbers = compute(Retrieval(), [(a, b)])
    assert numbers["a_to_b/recall_10"] == pytest.approx(10 / 2000, abs=5 * np.sqrt(0.005 / 2000))
    assert numbers["b_to_a/mean_rank"] == pytest.approx(1000.5, abs=5 * 2000 / np.sqrt(12 * 2000))


def test_states_and_sizes_are_checked():
    metric = Retrieval()
    state = metric.update(metric.init(), batch(0, 9))
    assert isinstance(state, Embeddings) and [x.dtype for x in state] == [np.float32, np.float32, np.int64]
    with pytest.raises(ValueError, match="expected embeddings of one size, got 5 and 4 numbers"):
        metric.update(state, (np.ones((2, 4)), np.ones((2, 4))))
    with pytest.raises(ValueError, match="no embeddings to rank"):
        compute(metric, [])
