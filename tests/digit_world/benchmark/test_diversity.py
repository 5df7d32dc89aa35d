"""Diversity of outputs that are real samples, copies of one, or unread."""

import numpy as np
import pytest

from codi_jax.digit_world import DigitWorld, WorldConfig
from codi_jax.digit_world.benchmark import diversity, outputs
from codi_jax.metrics.agreement import UNREAD

N = 60


@pytest.fixture(scope="module")
def world():
    batch = DigitWorld(WorldConfig("test", size=N, modalities=("text", "image", "audio"))).read(range(N))
    image = np.clip(np.rint((batch["image"] + 1) * 127.5), 0, 255).astype(np.uint8)
    audio = np.rint(batch["audio"] * 32767).astype(np.int16)
    return {"text": batch["text"]["caption"], "image": image, "audio": audio}, batch["factors"]


def evaluated(world, generated, digits):
    """Samples of an evaluation with real outputs in the set, and given ones alone and from text."""
    values, factors = world
    read = {name: {"digit": factors["digit"]} for name in values}
    cell = {"values": generated["image"], "read": {"digit": digits}}
    return {
        "real": {"seen": {"values": values, "factors": factors}},
        "joint": {title: {"values": values, "read": read} for title in ("text+image", "text+image+audio")},
        "independent": {"values": generated, "read": {name: {"digit": digits} for name in values}},
        "matrix": {"text->image": cell, "text->text": cell, "audio->image": cell},
    }


def test_real_outputs_are_as_diverse_as_real_samples_and_copies_are_not(world):
    values, factors = world
    first = np.array([np.flatnonzero(factors["digit"] == d)[0] for d in factors["digit"]])
    copies = {name: x[first] for name, x in values.items()}
    out = diversity.measure(evaluated(world, copies, factors["digit"]))
    assert {name: set(cells) for name, cells in out.items()} == {
        "image": {"text->image", "independent", "text+image+audio"},
        **{name: {"independent", "text+image+audio"} for name in ("text", "audio")},
    }
    for name, cells in out.items():
        assert cells["text+image+audio"]["diversity"] == pytest.approx(1) and cells["text+image+audio"]["n"] == N
        assert cells["text+image+audio"]["distance"] == cells["text+image+audio"]["real"] > 0
        assert cells["independent"]["diversity"] == pytest.approx(0, abs=1e-6) or name == "text"
    sizes = np.bincount(factors["digit"])
    assert out["text"]["independent"]["distance"] == pytest.approx(np.mean(1 / sizes[sizes > 1]))


def test_unread_outputs_are_left_out(world):
    values, factors = world
    digits = np.where(np.arange(N) < 40, factors["digit"], UNREAD)
    out = diversity.measure(evaluated(world, values, digits))
    assert out["image"]["text->image"]["n"] == 40
    out = diversity.measure(evaluated(world, values, np.full(N, UNREAD)))
    assert out["image"]["text->image"]["diversity"] is None and out["text"]["independent"]["diversity"] is None


def test_values_are_compared_as_pixels_and_log_mels(world):
    image, audio = (outputs.flat(world[0][name][:3]) for name in ("image", "audio"))
    assert image.shape == (3, 32 * 32 * 3) and image.dtype == np.float32 and 0 <= image.min() < image.max() <= 1
    assert audio.shape[0] == 3 and audio.dtype == np.float32
    louder = outputs.flat(world[0]["audio"][:3] // 2 * 2) - outputs.flat(world[0]["audio"][:3] // 2)
    assert np.median(louder) == pytest.approx(np.log(2), abs=1e-3)  # natural logarithms of magnitudes
