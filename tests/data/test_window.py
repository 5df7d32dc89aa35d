"""Random windows of time: where they start, and that audio and video of a record stay in step."""

import dataclasses
from types import SimpleNamespace

import numpy as np
import pytest

from codi_jax.data.decoded_source import DecodedSource, MediaConfig, decode_record
from codi_jax.media import files
from codi_jax.media.arrays import Frames
from codi_jax.media.audio import Audio
from codi_jax.media.files import MediaError, MediaFile

RATE, FPS, SECONDS = 1000, 8, 16
CONFIG = MediaConfig(("audio",), samples=2 * RATE, sample_rate=RATE, window="random", timeout_s=0)
BOTH = dataclasses.replace(CONFIG, modalities=("audio", "video"), frames=8, rate=4.0, size=16)
RAMP = np.arange(SECONDS * RATE, dtype=np.int16)  # the value of a sample is its time in milliseconds
GREYS = np.broadcast_to(np.arange(SECONDS * FPS, dtype=np.uint8)[:, None, None, None], (SECONDS * FPS, 16, 16, 3))


@pytest.fixture
def ramp(tmp_path):
    files.write_wav(tmp_path / "ramp.wav", RAMP, RATE)
    return MediaFile(str(tmp_path / "ramp.wav"))


def starts(record, config=CONFIG, count=24):
    """The times in seconds at which samples start."""
    samples = [decode_record(record, config, (0, index))["audio"] for index in range(count)]
    assert all(np.array_equal(np.diff(sample), np.ones(len(sample) - 1)) for sample in samples)  # one piece, no padding
    return np.array([sample[0] / RATE for sample in samples])


def test_starts_are_spread_over_the_file(ramp):
    found = starts({"audio": ramp})
    assert 0 <= found.min() < 3 and 11 < found.max() <= SECONDS - 2 and len(set(found)) == len(found)
    np.testing.assert_array_equal(found, starts({"audio": ramp}))
    np.testing.assert_array_equal(starts({"audio": Audio(RAMP, RATE)}), found)


def test_a_window_lies_in_the_interval_of_a_record(ramp):
    found = starts({"audio": dataclasses.replace(ramp, start=3.0, duration=4.0)})
    assert 3 <= found.min() < 3.5 and 4.5 < found.max() <= 5


def test_what_is_short_is_read_from_its_beginning(ramp):
    sample = decode_record({"audio": dataclasses.replace(ramp, start=15.0)}, CONFIG, (0, 0))["audio"]
    np.testing.assert_array_equal(sample, np.concatenate([RAMP[15 * RATE :], np.zeros(RATE, np.int16)]))


def test_views_have_windows_of_their_own(ramp):
    source = DecodedSource([{"audio": ramp}], dataclasses.replace(CONFIG, views=4))
    assert len({int(source[view]["audio"][0]) for view in range(4)}) == 4


def test_audio_and_video_start_at_the_same_time(ramp, tmp_path):
    files.write_video(tmp_path / "greys.mp4", GREYS, FPS)
    video = MediaFile(str(tmp_path / "greys.mp4"))
    for record in ({"audio": ramp, "video": video}, {"audio": Audio(RAMP, RATE), "video": Frames(GREYS, FPS)}):
        for index in range(4):
            sample = decode_record(record, BOTH, (0, index))
            shown = sample["video"].mean((1, 2, 3))
            heard = sample["audio"][:: RATE // 4] / RATE  # at the time of each frame
            assert np.abs(shown - np.floor(heard * FPS)).max() < 2  # greys are coded with an error below 2


def test_the_soundtrack_is_read_from_the_window_of_the_video():
    seen = []

    def read(name, shape):
        return lambda file, *_: seen.append((name, file.start)) or np.zeros(shape, np.float32)

    reader = SimpleNamespace(
        seconds=lambda file: 16.0, read_audio=read("audio", 2000), read_video=read("video", (8, 16, 16, 3))
    )
    decode_record({"video": MediaFile("x.mp4")}, BOTH, (0, 0), reader)
    assert {name for name, _ in seen} == {"audio", "video"} and len({start for _, start in seen}) == 1
    assert seen[0][1] > 0


def test_a_file_that_is_shorter_than_it_says_is_read_from_its_beginning(ramp):
    def read_audio(file, *arguments):
        return files.read_audio(file, *arguments)

    reader = SimpleNamespace(seconds=lambda file: 1e6, read_audio=read_audio)
    np.testing.assert_array_equal(decode_record({"audio": ramp}, CONFIG, (0, 0), reader)["audio"], RAMP[: 2 * RATE])


def test_other_errors_of_a_file_are_those_of_the_record(tmp_path):
    with pytest.raises(MediaError) as caught:
        decode_record({"audio": MediaFile(str(tmp_path / "none.wav"))}, CONFIG, (0, 0))
    assert caught.value.reason == "missing"
