"""Recordings of a pen that writes the digits of digit_world, made from integer seeds.

A digit is a path of a few strokes. A writer deforms the paths of every digit in their own way, and each recording adds
a smaller deformation of the same form. On a path p(s), s in [0, 1], with the pen down or lifted,

    q(s) = A (p(s) + Σ_k c_k cos πks),    s(u) = u + Σ_k b_k sin(πku)/πk,    velocity = q(s(u + 1/N)) - q(s(u)) + drift

A is a size, an aspect, a slant and a rotation; c bends the path, b changes the speed along it. The drift is the factor
motion: the whole path moves in that direction while it is written. The splits share no writer.
"""

import functools
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

import codi_jax
from codi_jax.config import config_class
from codi_jax.digit_world import MOTIONS, DigitWorld, WorldConfig
from codi_jax.digit_world.draws import choose, uniform
from codi_jax.digit_world.glyphs import Split
from codi_jax.digit_world.videos import STEPS

LENGTH = 64  # steps of a recording
CHANNELS = 3  # velocity to the right, velocity down, pressure
FACTORS = ("digit", "motion")  # those of digit_world that a recording shows
WRITERS: dict[str, range] = {
    "train": range(0, 400), "judge": range(400, 520), "val": range(520, 560), "test": range(560, 660),
}  # fmt: skip
DRIFT = 0.8  # heights of a digit during a recording
REST = 0.05, 0.15  # smallest and largest fraction of a recording before, and after, the pen is on its path
NOISE = 0.06  # standard deviation of the velocity's noise, uniform
BENDS, SPEEDS = 4, 3  # number of the c_k and of the b_k
WRITER = {"bend": 0.05, "speed": 0.45, "size": 0.15, "aspect": 0.15, "slant": 0.35, "angle": 0.15}  # largest values
SAMPLE = {"bend": 0.015, "speed": 0.2, "size": 0.05, "aspect": 0.05, "slant": 0.08, "angle": 0.06}
_DENSE = 256  # points of a path in the table


def _arc(x: float, y: float, width: float, height: float, start: float, stop: float) -> list[tuple[float, float]]:
    """Points of an arc of an ellipse with this centre and these radii; degrees, clockwise on the screen from right."""
    angles = np.deg2rad(np.linspace(start, stop, 1 + int(abs(stop - start) / 15)))
    return list(zip(x + width * np.cos(angles), y + height * np.sin(angles), strict=True))


# Digit -> ways to write it; a way is a list of strokes, x from -0.3 to 0.3 to the right, y from -0.5 to 0.5 down.
PATHS: tuple[tuple[list[list[tuple[float, float]]], ...], ...] = (
    ([_arc(0, 0, 0.3, 0.5, -80, -440)], [_arc(0, 0, 0.26, 0.5, -100, 260)]),
    ([[(-0.18, -0.28), (0.02, -0.5), (0.02, 0.5)]], [[(0, -0.5), (0, 0.5)]]),
    ([[*_arc(0, -0.22, 0.28, 0.28, -170, 30), (-0.28, 0.5), (0.3, 0.5)]],),
    ([[*_arc(-0.02, -0.25, 0.26, 0.25, -150, 90), *_arc(-0.02, 0.25, 0.3, 0.25, -90, 150)]],),
    ([[(-0.05, -0.5), (-0.3, 0.15), (0.3, 0.15)], [(0.15, -0.15), (0.15, 0.5)]],
     [[(0.12, 0.5), (0.12, -0.5), (-0.3, 0.18), (0.3, 0.18)]]),
    ([[(-0.2, -0.5), (-0.22, -0.08), *_arc(-0.02, 0.19, 0.3, 0.31, -130, 140)], [(-0.2, -0.5), (0.26, -0.5)]],
     [[(0.26, -0.5), (-0.2, -0.5), (-0.22, -0.08), *_arc(-0.02, 0.19, 0.3, 0.31, -130, 140)]]),
    ([[(0.2, -0.5), (-0.08, -0.25), *_arc(0, 0.22, 0.28, 0.28, 200, -170)]],),
    ([[(-0.3, -0.5), (0.3, -0.5), (-0.08, 0.5)]],
     [[(-0.3, -0.5), (0.3, -0.5), (-0.08, 0.5)], [(-0.2, 0.02), (0.22, 0.02)]]),
    ([[*_arc(0, -0.25, 0.24, 0.25, -30, -270), *_arc(0, 0.25, 0.29, 0.25, -90, 270),
       *_arc(0, -0.25, 0.24, 0.25, 90, -30)]],),
    ([[*_arc(-0.02, -0.22, 0.26, 0.28, -20, -370), (0.2, 0.5)]],
     [[*_arc(-0.02, -0.22, 0.26, 0.28, -20, -370), *_arc(-0.06, 0.2, 0.3, 0.3, 10, 140)]]),
)  # fmt: skip


@functools.lru_cache(maxsize=1)
def _table() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Points [W, 256, 2] of all ways, at equal distances, whether the pen is down [W, 256], and the ways [10, 2]."""
    points, down, ways = [], [], []
    for digit in PATHS:
        ways.append([len(points) + i % len(digit) for i in range(2)])
        for strokes in digit:
            corners = np.concatenate([np.asarray(stroke) for stroke in strokes])
            lifted = np.cumsum([len(stroke) for stroke in strokes])[:-1] - 1  # segments between strokes
            distance = np.concatenate([[0], np.cumsum(np.hypot(*np.diff(corners, axis=0).T))])
            at = np.linspace(0, distance[-1], _DENSE)
            points.append(np.stack([np.interp(at, distance, corners[:, axis]) for axis in (0, 1)], axis=1))
            down.append(~np.isin(np.searchsorted(distance[1:-1], at, "right"), lifted))
    return np.array(points), np.array(down, np.float64), np.array(ways)


def _style(seed: str, largest: dict[str, float], index: np.ndarray) -> dict[str, np.ndarray]:
    """Draws a deformation for each index [N]: name -> [N], or [N, 8] of `bend` and [N, 3] of `speed`."""
    counts = {"bend": 2 * BENDS, "speed": SPEEDS}
    out = {}
    for name, most in largest.items():
        u = uniform(seed, [f"{name} {k}" for k in range(counts.get(name, 1))], index)
        out[name] = most * (2 * np.stack(list(u.values()), axis=1) - 1)
    return {name: x if name in counts else x[:, 0] for name, x in out.items()}


def write(split: Split, digit: np.ndarray, motion: np.ndarray, seed: str, index: np.ndarray) -> np.ndarray:
    """Writes digits.

    Args:
      split: the split of the writers.
      digit, motion: [N], integers.
      seed: of the recordings.
      index: [N], of the recordings.

    Returns:
      float32 [N, 64, 3]: velocities in heights of a digit per recording, and the pressure, 0 or 1.
    """
    points, down, ways = _table()
    u = uniform(seed, ("writer", "begin", "end", "drift"), index)
    writer = WRITERS[split].start + choose(u["writer"], len(WRITERS[split]))
    way = ways[digit, choose(uniform("pen", ("way",), writer * 10 + digit)["way"], 2)]
    own = _style("pen writer", WRITER, writer * 10 + digit)
    new = _style(f"pen {seed}", SAMPLE, index)
    style = {name: own[name] + new[name] for name in own}

    before, after = (REST[0] + (REST[1] - REST[0]) * u[name][:, None] for name in ("begin", "end"))
    time = (np.linspace(0, 1, LENGTH + 1) - before) / (1 - after - before)  # [N, 65]
    s = time = np.clip(time, 0, 1)
    for k in range(SPEEDS):
        s = s + style["speed"][:, k, None] / SPEEDS * np.sin(np.pi * (k + 1) * time) / (np.pi * (k + 1))
    place = np.clip(s, 0, 1) * (_DENSE - 1)
    first = np.minimum(place.astype(np.int64), _DENSE - 2)
    part = (place - first)[..., None]
    path = (1 - part) * points[way[:, None], first] + part * points[way[:, None], first + 1]  # [N, 65, 2]
    for k in range(BENDS):
        path = path + np.cos(np.pi * (k + 1) * s)[..., None] * style["bend"][:, None, 2 * k : 2 * k + 2]
    x, y = path[..., 0] * (1 + style["aspect"])[:, None], path[..., 1]
    x = x - style["slant"][:, None] * y
    cos, sin = np.cos(style["angle"])[:, None], np.sin(style["angle"])[:, None]
    path = np.stack([cos * x - sin * y, sin * x + cos * y], axis=-1) * (1 + style["size"])[:, None, None]

    velocity = LENGTH * np.diff(path, axis=1)
    velocity = (np.roll(velocity, 1, 1) + 2 * velocity + np.roll(velocity, -1, 1)) / 4  # a hand has inertia
    direction = np.array([STEPS[name][0][::-1] for name in MOTIONS])[motion]  # to the right, down
    velocity += DRIFT * (0.8 + 0.4 * u["drift"])[:, None, None] * direction[:, None]
    draws = uniform(f"{seed} noise", [f"{i}" for i in range(2 * LENGTH)], index)
    velocity += NOISE * np.sqrt(12) * (np.stack(list(draws.values()), axis=1).reshape(velocity.shape) - 0.5)
    moving = (time[:, :-1] < 1) & (time[:, 1:] > 0)
    pressure = down[way[:, None], np.rint((place[:, :-1] + place[:, 1:]) / 2).astype(np.int64)] * moving
    return np.concatenate([velocity, pressure[..., None]], axis=-1).astype(np.float32)


@config_class()
class PenWorldConfig(WorldConfig):
    """Config of `pen_world`: that of digit_world; `modalities` are those beside `pen`."""

    modalities: tuple[str, ...] = ("text",)


@codi_jax.register("source", "pen_world", config=PenWorldConfig)
class PenWorld:
    """A source of samples of digit_world with "pen", float32 [64, 3], a recording of their digit and motion."""

    def __init__(self, config: PenWorldConfig):
        self.config, self._world = config, DigitWorld(config)

    def __len__(self) -> int:
        return len(self._world)

    def __getitem__(self, index: int) -> dict[str, Any]:
        return jax.tree.map(lambda x: x[0], self.read([index]))

    def read(self, indices: Sequence[int] | np.ndarray) -> dict[str, Any]:
        """Reads the samples `indices` [N], stacked; for errors see `DigitWorld.read`."""
        out = self._world.read(indices)
        digit, motion = (out["factors"][name].astype(np.int64) for name in FACTORS)
        seed = f"{self.config.seed}/{self.config.split}"
        return {**out, "pen": write(self.config.split, digit, motion, seed, np.asarray(indices, np.int64))}
