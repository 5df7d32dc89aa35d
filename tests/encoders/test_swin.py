"""Windows, masks of shifted windows, and patch merging."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from codi_jax.encoders.swin import SHIFT_MASKED, Merge, SwinBlock, relative_index, shift_mask, unwindows, windows


def random_params(model, *args):
    rng = np.random.default_rng(0)
    shapes = jax.eval_shape(model.init, jax.random.key(0), *args)["params"]
    return jax.tree.map(lambda leaf: jnp.asarray(rng.normal(size=leaf.shape) / 2, jnp.float32), shapes)


def test_windows_are_row_major_and_unwindows_is_the_inverse():
    x = np.arange(2 * 4 * 6).reshape(2, 4, 6, 1)
    cut = windows(x, 2)
    assert cut.shape == (2, 6, 4, 1)
    assert cut[0, :2, :, 0].tolist() == [[0, 1, 6, 7], [2, 3, 8, 9]]
    np.testing.assert_array_equal(unwindows(cut, (4, 6), 2), x)


def test_relative_index_by_hand():
    """Offsets (row, column) of a 2 × 2 window from (−1, −1) to (1, 1), row-major."""
    assert relative_index(2).tolist() == [[4, 3, 1, 0], [5, 4, 2, 1], [7, 6, 4, 3], [8, 7, 5, 4]]
    assert set(relative_index(5).ravel()) == set(range(81))


def test_the_shift_mask_by_hand():
    """4 × 4 cells in windows of 2 shifted by 1: not split, split by column, by row, by both."""
    visible = shift_mask((4, 4), 2, 1) == 0
    columns = np.array([[1, 0, 1, 0], [0, 1, 0, 1], [1, 0, 1, 0], [0, 1, 0, 1]], bool)
    rows = np.array([[1, 1, 0, 0], [1, 1, 0, 0], [0, 0, 1, 1], [0, 0, 1, 1]], bool)
    np.testing.assert_array_equal(visible, [np.ones((4, 4), bool), columns, rows, np.eye(4, dtype=bool)])
    assert np.exp(np.float32(SHIFT_MASKED)) < np.finfo(np.float32).tiny


@pytest.mark.parametrize(("shift", "cuts"), [(0, (4,)), (2, (2, 6)), (1, (1, 5))])
def test_a_cell_attends_to_its_window_and_not_across_an_edge(shift, cuts):
    """8 × 12 cells, windows of 4: the derivatives of a random block show which cell depends on which."""
    block = SwinBlock(heads=2, side=4, shift=shift, feed_forward=4)
    x = jax.random.normal(jax.random.key(1), (1, 8, 12, 4))
    params = random_params(block, x)

    def summed(x):
        return block.apply({"params": params}, x[None]).sum(-1).ravel()

    slopes = jax.jit(jax.jacrev(summed))(x[0]).reshape(96, 96, 4)
    rows = np.digitize(np.arange(8), cuts)
    columns = np.digitize(np.arange(12), (*cuts, cuts[-1] + 4))
    region = (10 * rows[:, None] + columns).ravel()
    np.testing.assert_array_equal(np.abs(slopes).max(-1) > 0, region[:, None] == region)


def test_the_bias_depends_only_on_the_offset():
    """With queries and keys of zero only the table matters: a large entry for (0, +1) selects the left neighbour."""
    block = SwinBlock(heads=1, side=4, shift=0, feed_forward=1)
    x = jax.random.normal(jax.random.key(1), (1, 4, 4, 3))
    params = jax.tree.map(jnp.zeros_like, random_params(block, x))
    params["norm1"]["scale"] = jnp.ones(3)
    params["attention"]["qkv"]["kernel"] = jnp.concatenate([jnp.zeros((3, 6)), jnp.eye(3)], 1)
    params["attention"]["out"]["kernel"] = jnp.eye(3)
    params["attention"]["table"] = jnp.zeros((49, 1)).at[3 * 7 + 4].set(200)
    out = jax.jit(block.apply)({"params": params}, x) - x
    normed = (x - x.mean(-1, keepdims=True)) / np.sqrt(np.var(x, -1, keepdims=True) + 1e-5)
    np.testing.assert_allclose(out[:, :, 1:], normed[:, :, :-1], atol=1e-5)
    np.testing.assert_allclose(out[:, :, 0], jnp.broadcast_to(normed.mean((1, 2)), (1, 4, 3)), atol=1e-5)


def test_patch_merging_concatenates_columns_first():
    merge = Merge()
    x = jnp.asarray([[[[1.0], [3.0]], [[2.0], [4.0]]]])  # numbered in the published order
    params = random_params(merge, x)
    params = {"norm": {"scale": jnp.ones(4), "bias": jnp.zeros(4)}, "reduction": params["reduction"]}
    four = np.array([1.0, 2, 3, 4])
    want = (four - 2.5) / np.sqrt(1.25 + 1e-5) @ np.asarray(params["reduction"]["kernel"], np.float64)
    np.testing.assert_allclose(merge.apply({"params": params}, x)[0, 0, 0], want, rtol=1e-5)
