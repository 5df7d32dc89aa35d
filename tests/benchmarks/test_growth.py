"""The benchmark of growth: its arithmetic, and the counts of the smallest recipe."""

import pytest

from benchmarks import growth


def test_memory_of_more_chips_is_extrapolated_from_two():
    rows = [{"chips": n, "hbm": {"arguments": 100 + 8000 / n}} for n in (8, 256)]
    assert growth.extrapolated(rows, 512) == pytest.approx(100 + 8000 / 512)


def test_shares_are_of_two_modalities():
    row = {"modalities": 2, "directions": 4, "combinations": 9, "objectives": 6, "training": 2e12, "programs": 6}
    first = row | {"sampling": 1e9, "alone": 8e8}
    third = row | {"modalities": 3, "objectives": 9, "training": 4.5e12, "programs": 8, "sampling": 1.5e9, "alone": 1e9}
    lines = growth.growth_table([first, third]).splitlines()
    assert lines[1].split() == ["2", "4", "9", "6", "1.00", "2", "T", "1.00", "6", "1.00", "1", "G", "1.00", "1.25"]
    assert [lines[2].split()[i] for i in (4, 7, 9, 12, 13)] == ["1.00", "1.50", "0.89", "1.00", "1.50"]
