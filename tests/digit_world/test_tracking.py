"""Phase correlation measures real and blurred videos, and rejects everything else."""

import numpy as np
import pytest

from codi_jax.digit_world import DigitWorld, WorldConfig
from codi_jax.digit_world.tracking import READABLE, correlations, scores, track


@pytest.fixture(scope="module")
def world():
    batch = DigitWorld(WorldConfig("test", size=128, modalities=("video",))).read(range(128))
    return batch["video"], batch["factors"]


def blurred(videos, width):
    f = np.fft.fftfreq(videos.shape[2])
    gain = np.exp(-2 * np.pi**2 * width**2 * (f[:, None] ** 2 + f**2))[..., None]
    return np.fft.ifft2(np.fft.fft2(videos, axes=(2, 3)) * gain, axes=(2, 3)).real


def accuracy(measured, factors):
    return {name: float((measured[name] == factors[name]).mean()) for name in measured}


def test_a_shift_gives_a_peak_of_one_at_the_shift():
    frame = np.random.default_rng(0).uniform(-1, 1, (1, 1, 32, 32, 3))
    r = correlations(np.concatenate([frame, np.roll(frame, (3, -2), (2, 3))], axis=1))
    assert r.shape == (1, 1, 32, 32)
    assert np.unravel_index(r[0, 0].argmax(), (32, 32)) == (3, 30)
    np.testing.assert_allclose(r.max(), 1, atol=1e-4)


def test_real_videos_are_measured_without_error(world):
    videos, factors = world
    assert accuracy(track(videos), factors) == {"motion": 1, "moment": 1, "event": 1}
    as_bytes = np.clip(np.rint((videos + 1) * 127.5), 0, 255).astype(np.uint8)
    assert accuracy(track(as_bytes), factors) == {"motion": 1, "moment": 1, "event": 1}
    np.testing.assert_allclose(scores(videos).max((1, 2)), 1, atol=1e-3)


@pytest.mark.parametrize("width", [1, 2])
def test_blurred_videos_are_measured(world, width):
    videos, factors = world
    assert min(accuracy(track(blurred(videos, width)), factors).values()) > 0.98


def test_noise_still_videos_and_shuffled_frames_are_unread(world):
    videos, factors = world
    rng = np.random.default_rng(0)
    noise = rng.normal(size=videos.shape)
    for unreadable in (noise, np.repeat(videos[:, :1], 8, axis=1), np.clip(videos + 2 * noise, -1, 1), 0 * noise):
        measured = track(unreadable)
        assert all((measured[name] == -1).mean() > 0.98 for name in measured)
    shuffled = track(videos[:, rng.permutation(8)])
    assert (shuffled["motion"] == factors["motion"]).mean() < 0.15


def test_a_motion_without_a_bounce_has_no_moment(world):
    videos, _ = world
    first = videos[:, 0]
    moving = np.stack([np.roll(first, k, axis=2) for k in range(8)], axis=1)
    measured = track(moving)
    assert (measured["motion"] == 1).mean() > 0.9 and (measured["moment"] == -1).mean() > 0.9
    assert scores(moving).max() >= READABLE
