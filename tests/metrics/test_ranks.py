"""Ranks by hand, against all pairs, of ties, and on rings of devices."""

import re

import jax
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from codi_jax.metrics import ranks as module
from codi_jax.metrics.ranks import ranks
from codi_jax.parallel import MeshConfig, make_mesh


def problem(n=11, more=12, size=6, seed=0, noise=0.7):
    """n items, n + more captions in any order, of which some are found at once and some are not."""
    rng = np.random.default_rng(seed)
    groups = rng.permutation(np.concatenate([np.arange(n), rng.integers(0, n, more)]))
    a = rng.normal(size=(n, size))
    return a, a[groups] + noise * rng.normal(size=(len(groups), size)), groups


def by_sorting(a, b, groups):
    """The ranks of all rows from the matrix of all cosines, without ties."""
    a, b = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (a, b))
    cosine = a @ b.T
    belongs = groups == np.arange(len(a))[:, None]
    of_a = [1 + (cosine[i][~belongs[i]] > cosine[i][belongs[i]].max()).sum() for i in range(len(a))]
    of_b = [1 + (cosine[:, j] > cosine[groups[j], j]).sum() for j in range(len(b))]
    return of_a, of_b


def test_three_pairs_by_hand():
    """Angles of a: 0, 90 and 180 degrees; of b: 10, 20 and 120. To b_1 a_0 is nearest (20°), a_1 is second (70°)."""
    angles = np.radians([[0, 90, 180], [10, 20, 120]])
    a, b = (np.stack([np.cos(x), np.sin(x)], 1) * [[1], [5], [0.1]] for x in angles)
    of_a, of_b = ranks(a, b)
    assert of_a.rank.tolist() == [1, 2, 1] and of_b.rank.tolist() == [1, 2, 2]  # b_2 is 30° from a_1, 60° from a_2
    assert not of_a.ties.any() and not of_b.ties.any()


def test_the_best_of_several_captions_counts_and_the_others_do_not_compete():
    a = np.eye(2)
    b = np.array([[1, 0.1], [1, 0.2], [1, 3], [3, 1], [1, 0.3]])
    of_a, of_b = ranks(a, b, np.array([0, 0, 1, 1, 0]))
    assert of_a.rank.tolist() == [1, 1] and of_b.rank.tolist() == [1, 1, 1, 2, 1]


@pytest.mark.parametrize(("n", "more", "tile"), [(1, 0, 1), (12, 9, 5), (7, 30, 64), (40, 0, 8)])
@given(seed=st.integers(0, 99), noise=st.floats(0, 3))
def test_all_pairs(n, more, tile, seed, noise):
    arguments = problem(n, more, seed=seed, noise=noise + 1e-3)
    found = ranks(*arguments, tile=tile)
    for of, expected in zip(found, by_sorting(*arguments), strict=True):
        assert of.rank.tolist() == expected and not of.ties.any()


@pytest.mark.parametrize("size", [1, 7, 130])
def test_equal_embeddings_have_the_last_rank(size):
    x = np.tile(np.random.default_rng(0).normal(size=(1, size)), (9, 1)) * 2.0 ** np.arange(9)[:, None]
    for of in ranks(x, x, tile=4):
        assert of.rank.tolist() == [9] * 9 and of.ties.tolist() == [8] * 9


def test_a_tie_counts_as_the_worst_rank():
    of_a, of_b = ranks(np.eye(3)[[0, 1, 1]], np.eye(3)[[0, 1, 2]])
    assert of_a.rank.tolist() == [1, 1, 3] and of_a.ties.tolist() == [0, 0, 1]  # the third ties with the first at 0
    assert of_b.rank.tolist() == [1, 2, 3] and of_b.ties.tolist() == [0, 1, 2]


@pytest.mark.parametrize("tile", [2, 1024])
@pytest.mark.parametrize("sizes", [{"data": 2, "fsdp": 4}, {"data": 1, "fsdp": 2, "tensor": 2, "context": 2}], ids=str)
def test_a_ring_of_devices_gives_the_same_ranks(sizes, tile):
    mesh = make_mesh(MeshConfig(**sizes))
    a, b, groups = problem(n=21, more=18)
    a[2], b[3] = a[7], b[5]  # ties, too
    for one, ring in zip(ranks(a, b, groups), ranks(a, b, groups, mesh, tile), strict=True):
        np.testing.assert_array_equal(one.rank, ring.rank)
        np.testing.assert_array_equal(one.ties, ring.ties)
        assert one.ties.any() and (one.rank == 1).any() and (one.rank > 1).any()


def test_equal_embeddings_have_the_last_rank_on_a_ring():
    x = np.ones((5, 3))  # fewer rows than devices
    for of in ranks(x, x, mesh=make_mesh(MeshConfig())):
        assert of.rank.tolist() == [5] * 5


def test_no_array_is_larger_than_a_tile_or_the_rows_of_a_device():
    """With 8 devices, 64 rows each, tiles of 16 and D = 4: rows have 3 · 4 · 64 numbers, all pairs 64² a block."""
    mesh = make_mesh(MeshConfig(data=8, fsdp=1))
    rows = module._Rows(
        jax.ShapeDtypeStruct((512, 3, 4), np.int8),
        *[jax.ShapeDtypeStruct((512,), np.int32)] * 2,
    )
    text = module._count.lower(rows, rows, mesh=mesh, tile=16).compile().as_text()
    shapes = re.findall(r"\b(?:f32|s32|s8|pred)\[([\d,]+)\]", text)
    assert max(np.prod([int(n) for n in shape.split(",")]) for shape in shapes) == 3 * 4 * 64


@pytest.mark.parametrize(
    ("a", "b", "groups", "message"),
    [
        ((3, 2), (3, 4), None, r"expected embeddings \[n, D\] and \[m, D\], got shapes \(3, 2\) and \(3, 4\)"),
        ((3,), (3, 4), None, r"expected embeddings .* got shapes \(3,\) and \(3, 4\)"),
        ((3, 2), (4, 2), None, "3 and 4 embeddings are not pairs: groups must say what belongs together"),
        ((3, 2), (4, 2), [0, 1, 2], r"groups: expected 4 integers, got int64 of shape \(3,\)"),
        ((2, 2), (3, 2), [0, 1, 0.5], r"groups: expected 3 integers, got float64 of shape \(3,\)"),
        ((2, 2), (3, 2), [0, 1, 2], "groups: 0 to 2, but the rows of a are 0 to 1"),
        ((3, 2), (3, 2), [0, 0, 2], "groups: no row of b belongs to row 1 of a"),
        ((0, 2), (0, 2), None, "no embeddings to rank"),
    ],
)
def test_bad_input_has_one_line(a, b, groups, message):
    with pytest.raises(ValueError, match=f"^{message}$"):
        ranks(np.ones(a), np.ones(b), groups)


def test_a_tile_has_rows():
    with pytest.raises(ValueError, match="tile: expected at least 1 row, got 0"):
        ranks(np.eye(2), np.eye(2), tile=0)
