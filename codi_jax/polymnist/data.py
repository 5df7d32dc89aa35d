"""The source `polymnist`: three views of one digit in one quadrant, and the labels of both, made from integer seeds.

The task is that of PolyMNIST-Quadrant-Labels (MUNI, arXiv 2606.16408): views of one digit on different textures, the
digit in one quadrant of the canvas; the digit and the quadrant as labels. The samples are not those of that data set:
glyphs are the 5000 MNIST digits of `digit_world.glyphs`, backgrounds are procedural (`textures`), and everything else
is drawn from seeds, so numbers on this source are not comparable with published ones without saying so.

With m the brightness of the glyph at pixel p, warped to half of the canvas, and b the background, a view is

    x(p) = (1 - m) b + m (1 - b)

as in PolyMNIST, which inverts the background where the digit is. b is dark or light, see `textures`.

A tuple lacks modalities unless it is complete. It is complete with probability `complete`; otherwise it has one of the
25 sets of two to four modalities, drawn uniformly. A source holds those of the first `size` tuples that have all of its
`modalities`, and of these only those modalities. So several sources of one seed are views of one set of tuples.
"""

import itertools
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from codi_jax.config import ConfigError, config_class, did_you_mean
from codi_jax.data.source import check_indices, register
from codi_jax.digit_world.draws import choose, uniform
from codi_jax.digit_world.glyphs import PER_CLASS, SIDE, SPLITS, Split, glyphs
from codi_jax.digit_world.images import warp
from codi_jax.polymnist.deform import deform
from codi_jax.polymnist.textures import KINDS, texture

VIEWS = ("view_1", "view_2", "view_3")
DIGITS = tuple("0123456789")
QUADRANTS = ("upper left", "upper right", "lower left", "lower right")
LABELS = {"digit": DIGITS, "quadrant": QUADRANTS}  # label, which is a factor, too -> its values
MODALITIES = (*VIEWS, *LABELS)
CARRIES = {**dict.fromkeys(VIEWS, tuple(LABELS)), **{label: (label,) for label in LABELS}}  # modality -> its factors
JITTER, SCALE, ANGLE = 0.06, 0.1, np.deg2rad(10)  # largest: of the side of a quadrant, relative, radians
SUBSETS = tuple(  # of an incomplete tuple
    subset for count in range(2, len(MODALITIES)) for subset in itertools.combinations(MODALITIES, count)
)


@config_class()
class PolyMNISTConfig:
    """Config of `polymnist`.

    Attributes:
      split: split of glyphs: train, judge, val or test.
      size: number of tuples; the source has as many samples as tuples have all of `modalities`.
      seed: tuples of different seeds are independent.
      side: of a view, in pixels, a multiple of 4.
      modalities: of a sample.
      complete: probability that a tuple has all modalities.
      shuffle_views: whether the textures of the views are exchanged at random, for networks of all views.
      deform: largest elastic displacement of a glyph, in sides of its quadrant, for a judge of more hands than glyphs.
    """

    split: Split = "train"
    size: int = 20_000
    seed: int = 0
    side: int = 64
    modalities: tuple[str, ...] = MODALITIES
    complete: float = 1.0
    shuffle_views: bool = False
    deform: float = 0.0

    def __post_init__(self):
        if self.size < 1:
            raise ConfigError(f"polymnist: size must be at least 1, got {self.size}")
        if self.side < 16 or self.side % 4:
            raise ConfigError(f"polymnist: side must be a multiple of 4 and at least 16, got {self.side}")
        if not 0 <= self.complete <= 1:
            raise ConfigError(f"polymnist: complete must be a probability, got {self.complete}")
        if not 0 <= self.deform <= 0.25:
            raise ConfigError(f"polymnist: deform must be between 0 and 0.25, got {self.deform:g}")
        if unknown := [name for name in self.modalities if name not in MODALITIES]:
            hint = did_you_mean(unknown[0], MODALITIES)
            raise ConfigError(f"polymnist: no modality {unknown[0]!r}{hint}; there are {', '.join(MODALITIES)}")


def present(seed: str, complete: float, index: np.ndarray) -> dict[str, np.ndarray]:
    """Whether tuples [N] have each modality: modality -> bool [N]."""
    u = uniform(seed, ("complete", "subset"), index)
    whole, subset = u["complete"] < complete, choose(u["subset"], len(SUBSETS))
    return {name: whole | np.array([name in s for s in SUBSETS])[subset] for name in MODALITIES}


def place(patch: np.ndarray, quadrant: np.ndarray) -> np.ndarray:
    """Puts patches [N, S/2, S/2] into quadrants [N] of a black canvas, [N, S, S]."""
    n, half = patch.shape[:2]
    out = np.zeros((n, 2, half, 2, half), patch.dtype)
    out[np.arange(n), quadrant // 2, :, quadrant % 2] = patch
    return out.reshape(n, 2 * half, 2 * half)


@register("polymnist", PolyMNISTConfig)
class PolyMNIST:
    """A source of tuples.

    A sample is {"factors": {"digit", "quadrant"}, "instances": {"view_k glyph"}} and its modalities: views float32
    [S, S, 3] in [-1, 1], the labels integers. Instances are rows of `glyphs().reshape(5000, 28, 28)`, three different
    ones of a class; samples that share one are not independent in an evaluation.
    """

    def __init__(self, config: PolyMNISTConfig | None = None):
        self.config = config = config or PolyMNISTConfig()
        self._seed = f"polymnist/{config.seed}/{config.split}"
        has = present(self._seed, config.complete, np.arange(config.size))
        everything = [has[name] for name in config.modalities]
        self._tuples = np.flatnonzero(np.logical_and.reduce([np.ones(config.size, bool), *everything]))
        if not len(self._tuples):
            raise ConfigError(f"polymnist: none of {config.size} tuples has {', '.join(config.modalities)}")
        glyphs()  # raise an error about a missing file here and not in a data thread

    def __len__(self) -> int:
        return len(self._tuples)

    def __getitem__(self, index: int) -> dict[str, Any]:
        return jax.tree.map(lambda x: x[0], self.read([index]))

    def read(self, indices: Sequence[int] | np.ndarray) -> dict[str, Any]:
        """Reads the samples `indices` [N], stacked.

        Raises:
          IndexError: an index is out of range.
        """
        index = self._tuples[check_indices(indices, len(self), "polymnist")]
        u = uniform(self._seed, tuple(LABELS), index)
        factors = {name: choose(u[name], len(values)) for name, values in LABELS.items()}
        glyph = self._glyphs(index, factors["digit"])
        out: dict[str, Any] = {"factors": {name: x.astype(np.int32) for name, x in factors.items()}}
        views = [name for name in self.config.modalities if name in VIEWS]
        out["instances"] = {f"{name} glyph": glyph[name].astype(np.int32) for name in views}
        for name in views:
            out[name] = self._view(name, index, glyph[name], factors["quadrant"])
        return {**out, **{name: out["factors"][name] for name in self.config.modalities if name in LABELS}}

    def _glyphs(self, index: np.ndarray, digit: np.ndarray) -> dict[str, np.ndarray]:
        """Three different glyphs of the digits [N]: view -> row [N]."""
        rows = SPLITS[self.config.split]
        first, second, third = uniform(self._seed, [f"{name} glyph" for name in VIEWS], index).values()
        count, start = len(rows), choose(first, len(rows))
        more = 1 + choose(second, count // 2)
        offsets = (np.zeros_like(start), more, more + 1 + choose(third, count - 1 - more))
        return {
            name: digit * PER_CLASS + rows.start + (start + offset) % count
            for name, offset in zip(VIEWS, offsets, strict=True)
        }

    def mask(self, name: str, index: np.ndarray, glyph: np.ndarray, quadrant: np.ndarray) -> np.ndarray:
        """Brightness of the glyph on the canvas of a view, [N, S, S] in [0, 1]."""
        side = self.config.side
        seed = f"{self._seed}/{name}"
        right, down, scale, angle = (
            2 * x - 1 for x in uniform(seed, ("right", "down", "scale", "angle"), index).values()
        )
        # On twice the resolution, then averaged: a glyph of 28 pixels becomes one of half a canvas without aliasing.
        fine = warp(
            glyph,
            shift=JITTER * side * np.stack([right, down], axis=1),
            scale=(1 + SCALE * scale) * side / SIDE,
            angle=ANGLE * angle,
            canvas=side,
        )
        if self.config.deform:
            fine = deform(fine, seed, index, self.config.deform)
        patch = fine.reshape(len(fine), side // 2, 2, side // 2, 2).mean((2, 4))
        return place(patch, quadrant)

    def _view(self, name: str, index: np.ndarray, glyph: np.ndarray, quadrant: np.ndarray) -> np.ndarray:
        mask = self.mask(name, index, glyph, quadrant)[..., None]
        background = self._background(name, index)
        return 2 * ((1 - mask) * background + mask * (1 - background)) - 1

    def _background(self, name: str, index: np.ndarray) -> np.ndarray:
        seed, side, own = f"{self._seed}/{name}", self.config.side, VIEWS.index(name)
        if not self.config.shuffle_views:
            return texture(own, seed, index, side)
        turn = choose(uniform(self._seed, ("turn",), index)["turn"], len(KINDS))
        out = np.empty((len(index), side, side, 3), np.float32)
        for k in range(len(KINDS)):
            rows = turn == k
            out[rows] = texture((own + k) % len(KINDS), seed, index[rows], side)
        return out
