"""Elastic deformation: none is none, and a shift of all nodes is a shift."""

import numpy as np
import pytest

from codi_jax.polymnist import deform
from codi_jax.polymnist.deform import GRID


def test_without_displacement_a_picture_is_itself():
    picture = np.random.default_rng(0).random((3, 9, 9)).astype(np.float32)
    np.testing.assert_array_equal(deform.deform(picture, "seed", np.arange(3), 0.0), picture)


@pytest.mark.parametrize("value", [0.0, 1.0])
def test_nodes_that_move_alike_shift_the_picture(monkeypatch, value):
    monkeypatch.setattr(
        deform, "uniform", lambda seed, names, index: {name: np.full(len(index), value) for name in names}
    )
    picture = np.random.default_rng(0).random((2, 10, 10)).astype(np.float32)
    got = deform.deform(picture, "seed", np.arange(2), 0.2)  # two pixels
    want = np.zeros_like(picture)
    if value:
        want[:, :-2, :-2] = picture[:, 2:, 2:]
    else:
        want[:, 2:, 2:] = picture[:, :-2, :-2]
    np.testing.assert_allclose(got, want, atol=1e-6)


def test_a_picture_between_nodes_moves_by_their_mean(monkeypatch):
    nodes = np.full((2, GRID, GRID), 0.5)
    nodes[0, :, 1], nodes[0, :, 2] = 0.0, 1.0  # the second column to the left, the third to the right: 0 between them
    names = iter(nodes.ravel())
    monkeypatch.setattr(deform, "uniform", lambda seed, of, index: {name: np.full(1, next(names)) for name in of})
    picture = np.zeros((1, 7, 7), np.float32)
    picture[0, 3, 3] = 1
    np.testing.assert_allclose(deform.deform(picture, "seed", np.arange(1), 0.1)[0, 3, 3], 1, atol=1e-6)


def test_draws_depend_on_the_index_alone():
    picture = np.random.default_rng(0).random((4, 8, 8)).astype(np.float32)
    whole = deform.deform(picture, "seed", np.arange(4), 0.1)
    np.testing.assert_array_equal(deform.deform(picture[2:], "seed", np.arange(2, 4), 0.1), whole[2:])
    assert np.abs(whole - picture).max() > 0.1
