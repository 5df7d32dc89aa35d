"""The benchmark of conditions: what is kept and what is read alone are parts of one value, and its picture."""

import numpy as np
import pytest

from benchmarks import conditions

CASES = {case.task: case for case in conditions.cases(8000)}


def value(output):
    rng = np.random.default_rng(0)
    if output == "audio":
        return rng.integers(1, 2**15, 8192).astype(np.int16)
    return rng.integers(1, 256, (32, 32, 3) if output == "image" else (8, 32, 32, 3)).astype(np.uint8)


@pytest.mark.parametrize("task", CASES)
def test_nothing_that_is_kept_is_left_in_what_is_read_alone(task):
    case = CASES[task]
    given = value(case.output)
    kept = np.broadcast_to(case.kept(given), given.shape)
    assert kept.any() and not kept.all()
    alone = case.alone(given)
    changed = case.alone(np.where(kept, 0, given).astype(given.dtype))
    np.testing.assert_array_equal(alone, changed)  # it does not depend on what is kept
    np.testing.assert_array_equal(alone[~kept], given[~kept])


def test_strips_show_what_is_kept_above_the_result():
    case = CASES["inpaint, lower half"]
    given, made = [np.full((32, 32, 3), 200, np.uint8)] * 9, [np.full((32, 32, 3), 50, np.uint8)] * 9
    strip = conditions.strips(case, given, made)
    assert strip.shape == (64, 8 * 32, 3) and (strip[32:] == 50).all()
    assert (strip[:16] == 200).all() and (strip[16:32] == 128).all()
