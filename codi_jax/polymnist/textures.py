"""Procedural backgrounds, one kind for each view: clouds, stripes and blobs.

A texture is a field w(p) in [0, 1] that mixes two colours a, b, drawn from integer seeds:

    clouds     w = ½ + ½ tanh(Σ_k a_k sin(f_k·p + φ_k) / norm),   few waves of low frequency
    stripes    w = ½ + ½ tanh(4 sin(f·p + φ)),   or of the product of two such waves at a right angle: checks
    blobs      w = max_k exp(-½ (|p - p_k| / r_k)^4),   discs with soft edges

p is in units of the side, so that a texture does not depend on the resolution. The colours of one sample are all dark
or all light: dark ones have channels in [0, SHADE], light ones in [1 - SHADE, 1]. So a pixel and its inverse 1 - x
differ by at least 1 - 2 SHADE in every channel.
"""

from collections.abc import Sequence

import numpy as np

from codi_jax.digit_world.draws import choose, uniform

SHADE = 0.35
WAVES = 5  # of clouds
DISCS = 9  # of blobs
CYCLES = {"clouds": (0.4, 1.8), "stripes": (2.5, 6.0)}  # smallest and largest number of cycles per side
RADIUS = 0.07, 0.2  # of a disc, in sides

Draws = dict[str, np.ndarray]


def _grid(side: int) -> tuple[np.ndarray, np.ndarray]:
    """Coordinates x [1, 1, S] to the right and y [1, S, 1] down of pixel centres, in sides."""
    centres = (np.arange(side, dtype=np.float32) + 0.5) / side
    return centres[None, None, :], centres[None, :, None]


def _spread(values: np.ndarray) -> np.ndarray:
    """[N] as [N, 1, 1]."""
    return values.astype(np.float32)[:, None, None]


def _wave(u: Draws, name: str, cycles: tuple[float, float], side: int, turn: float = 0.0) -> np.ndarray:
    """sin(f·p + φ), [N, S, S]; `turn` is added to the direction, in turns."""
    x, y = _grid(side)
    frequency = 2 * np.pi * (cycles[0] + (cycles[1] - cycles[0]) * u[f"{name} cycles"])
    angle = 2 * np.pi * (u[f"{name} direction"] + turn)
    phase = 2 * np.pi * u[f"{name} phase"]
    return np.sin(_spread(frequency * np.cos(angle)) * x + _spread(frequency * np.sin(angle)) * y + _spread(phase))


def _names(name: str) -> list[str]:
    return [f"{name} {part}" for part in ("cycles", "direction", "phase")]


def clouds(seed: str, index: np.ndarray, side: int) -> np.ndarray:
    """Smooth noise, [N, S, S]."""
    waves = [f"clouds {k}" for k in range(WAVES)]
    u = uniform(seed, [part for wave in waves for part in _names(wave)], index)
    total = np.sum([_wave(u, wave, CYCLES["clouds"], side) for wave in waves], axis=0)
    return 0.5 + 0.5 * np.tanh(total / np.sqrt(WAVES / 2))


def stripes(seed: str, index: np.ndarray, side: int) -> np.ndarray:
    """Stripes, or checks for half of the samples, [N, S, S]."""
    u = uniform(seed, [*_names("stripes"), "checks"], index)
    wave = _wave(u, "stripes", CYCLES["stripes"], side)
    across = _wave(u, "stripes", CYCLES["stripes"], side, turn=0.25)
    return 0.5 + 0.5 * np.tanh(4 * np.where(_spread(u["checks"]) < 0.5, wave, wave * across))


def blobs(seed: str, index: np.ndarray, side: int) -> np.ndarray:
    """Discs with soft edges, [N, S, S]."""
    u = uniform(seed, [f"disc {k} {part}" for k in range(DISCS) for part in ("x", "y", "radius")], index)
    x, y = _grid(side)
    field = np.zeros((len(index), side, side), np.float32)
    for k in range(DISCS):
        radius = RADIUS[0] + (RADIUS[1] - RADIUS[0]) * u[f"disc {k} radius"]
        square = (x - _spread(u[f"disc {k} x"])) ** 2 + (y - _spread(u[f"disc {k} y"])) ** 2
        np.maximum(field, np.exp(-0.5 * (square / _spread(radius) ** 2) ** 2), out=field)
    return field


KINDS = (clouds, stripes, blobs)


def colours(seed: str, index: np.ndarray, names: Sequence[str]) -> dict[str, np.ndarray]:
    """Colours [N, 3] of each name, all dark or all light in one sample."""
    channels = [f"{name} {channel}" for name in names for channel in "rgb"]
    u = uniform(seed, [*channels, "light"], index)
    light = choose(u["light"], 2)[:, None]
    out = {name: SHADE * np.stack([u[f"{name} {channel}"] for channel in "rgb"], axis=1) for name in names}
    return {name: np.where(light, 1 - colour, colour).astype(np.float32) for name, colour in out.items()}


def texture(kind: int, seed: str, index: np.ndarray, side: int) -> np.ndarray:
    """Backgrounds.

    Args:
      kind: 0 to 2, an index of `KINDS`.
      seed: of the draws.
      index: [N], of the samples.
      side: S, in pixels.

    Returns:
      float32 [N, S, S, 3] in [0, 1].
    """
    field = KINDS[kind](seed, index, side)[..., None].astype(np.float32)
    pair = colours(seed, index, ("first", "second"))
    return (1 - field) * pair["first"][:, None, None] + field * pair["second"][:, None, None]
