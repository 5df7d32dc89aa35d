"""Features kept up to a limit: appended in place, never shared by mistake, and an error beyond the limit."""

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from codi_jax.metrics.rows import append, blocks, check_features, empty


def counting(n, start=0):
    return np.arange(start, start + 2 * n, dtype=np.float32).reshape(n, 2)


def test_a_batch_is_appended_in_place():
    first = append(empty(5, 2), counting(2))
    second = append(first, counting(3, 10))
    assert second.rows is first.rows
    np.testing.assert_array_equal(first.kept, counting(2))
    np.testing.assert_array_equal(second.kept, np.concatenate([counting(2), counting(3, 10)]))


def test_states_that_continue_one_state_are_independent():
    start = append(empty(5, 2), counting(1))
    a, b = append(start, counting(2, 10)), append(start, counting(2, 20))
    np.testing.assert_array_equal(a.kept[1:], counting(2, 10))
    np.testing.assert_array_equal(b.kept[1:], counting(2, 20))
    np.testing.assert_array_equal(start.kept, counting(1))


def test_read_only_states_are_copied():
    """As those that come from other processes are."""
    state = append(empty(4, 2), counting(1))
    for array in state:
        array.flags.writeable = False
    np.testing.assert_array_equal(append(state, counting(1, 4)).kept, np.float32([[0, 1], [4, 5]]))
    assert int(state.number) == 1


def test_the_limit_is_an_error_and_not_a_sample():
    state = append(empty(3, 2), counting(3))
    with pytest.raises(ValueError, match=r"4 samples, but this metric keeps at most 3; give a larger limit"):
        append(state, counting(1))
    np.testing.assert_array_equal(append(state, np.zeros((0, 2))).kept, counting(3))
    with pytest.raises(ValueError, match="room for at least one sample"):
        empty(0, 2)


def test_features_are_checked():
    with pytest.raises(ValueError, match=r"expected features \[n, 2\], got shape \(3, 4\)"):
        append(empty(5, 2), np.zeros((3, 4)))
    with pytest.raises(ValueError, match=r"expected real features \[n, F\] with n >= 2, got shape \(1, 4\)"):
        check_features(np.zeros((1, 4)), name="real features", least=2)
    with pytest.raises(ValueError, match="features: row 4097 has a value that is not finite"):
        bad = np.zeros((5000, 2))
        bad[4097, 1] = np.nan
        check_features(bad)
    with pytest.raises(ValueError, match="expected features of real numbers, got complex128"):
        check_features(np.zeros((2, 2), complex))
    assert check_features(jnp.ones((2, 3), jnp.bfloat16)).dtype == np.float32
    assert check_features([[1.0, 2.0]]).shape == (1, 2)


@given(st.integers(0, 50), st.integers(1, 60))
def test_blocks_cover_all_rows_once(rows, size):
    covered = [i for part in blocks(rows, size) for i in range(rows)[part]]
    assert covered == list(range(rows))
    assert all(part.stop - part.start <= size for part in blocks(rows, size))


def test_blocks_need_a_size():
    with pytest.raises(ValueError, match="blocks of at least one row, got 0"):
        blocks(3, 0)
