"""Every notebook runs to its end, small, in a process of its own."""

import pytest

from tests.notebooks import NOTEBOOKS, run

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_it_runs(path, tmp_path):
    assert "cell" in run(path, tmp_path)
