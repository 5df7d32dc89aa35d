import subprocess
import sys

import numpy as np
import pytest

from codi_jax.config import ConfigError
from codi_jax.digit_world import make_speech
from codi_jax.digit_world import speech as module
from codi_jax.digit_world.speech import RATE, SPEAKERS, SPLITS, TAKES, compress, expand, speech, utterance_index


def test_splits_are_disjoint_and_complete():
    assert sorted(s for split in SPLITS.values() for s in split) == list(range(SPEAKERS))
    assert {split: len(speakers) for split, speakers in SPLITS.items()} == {
        "train": 10, "judge": 5, "val": 2, "test": 3,
    }  # fmt: skip


def test_no_voice_variant_is_in_two_splits():
    split_of = {place: split for split, places in SPLITS.items() for place in places}
    homes = {}
    for speakers in (make_speech.LOW, make_speech.HIGH):
        assert len(speakers) == len(set(speakers)) == SPEAKERS
        for place, speaker in enumerate(speakers):
            homes.setdefault(speaker.variant, set()).add(split_of[place])
    assert all(len(splits) == 1 for splits in homes.values())


def test_the_file_is_small_and_its_words_are_short():
    assert module.PATH.stat().st_size <= 3 * 2**20
    bank = speech()
    length = np.diff(bank.offsets)
    assert len(length) == 2 * SPEAKERS * TAKES * 10 == 800
    assert length.min() > 0.12 * RATE and length.max() <= module.LONGEST
    assert bank.samples.dtype == np.float32
    peaks = np.maximum.reduceat(np.abs(bank.samples), bank.offsets[:-1])
    np.testing.assert_array_equal(peaks, 1)
    assert bank.level.min() > 0.05 and bank.level.max() < 0.5
    np.testing.assert_allclose(bank.level[77], np.sqrt((bank.samples[slice(*bank.offsets[77:79])] ** 2).mean()), 1e-5)


@pytest.mark.parametrize("split", SPLITS)
def test_utterance_index_picks_by_digit_voice_and_split(split):
    digit, voice, u = (x.ravel() for x in np.meshgrid(np.arange(10), np.arange(2), np.arange(100) / 100))
    bank, word = speech(), utterance_index(split, digit, voice, u)
    np.testing.assert_array_equal(bank.digit[word], digit)
    np.testing.assert_array_equal(bank.voice[word], voice)
    for v in (0, 1):
        speakers = set(bank.speaker[word[voice == v]] - v * SPEAKERS)
        assert speakers == set(SPLITS[split])
    assert set(bank.take[word]) == set(range(TAKES))


def test_low_and_high_voices_have_separate_pitches():
    bank = speech()
    pitch = np.array([make_speech.pitch_of(w) for w in np.split(bank.samples, bank.offsets[1:-1])])
    medians = np.array([np.nanmedian(pitch[bank.speaker == s]) for s in range(2 * SPEAKERS)])
    assert medians[:SPEAKERS].max() < make_speech.HIGHEST_LOW
    assert medians[SPEAKERS:].min() > make_speech.LOWEST_HIGH
    assert ((pitch > 150) == bank.voice).mean() > 0.98


def test_pitch_of_harmonics():
    t = np.arange(4000) / RATE
    for hz in (75, 110, 200, 260):
        buzz = sum(np.sin(2 * np.pi * hz * k * t) / k for k in range(1, 8))
        assert abs(make_speech.pitch_of(buzz) / hz - 1) < 0.02
    assert np.isnan(make_speech.pitch_of(np.random.default_rng(0).normal(size=4000)))


def test_mu_law_round_trip_of_loud_and_soft_waveforms():
    codes = np.arange(1, 256, dtype=np.uint8)
    np.testing.assert_array_equal(compress(expand(codes)), codes)
    assert expand(np.array([1, 128, 255])).tolist() == [-1, 0, 1]
    for peak in (1.0, 0.03):
        wave = peak * np.random.default_rng(0).uniform(-1, 1, 5000)
        error = expand(compress(wave)) - wave
        assert (error**2).mean() < 10**-3.2 * (wave**2).mean()


def damage(arrays, what):
    if what == "cut":
        arrays["samples"] = arrays["samples"][:-1]
    elif what == "offsets":
        arrays["offsets"][7] = arrays["offsets"][9]
    elif what == "labels":
        arrays["digit"] = arrays["digit"][::-1]
    elif what == "missing":
        del arrays["voice"]
    elif what == "codes":
        arrays["samples"] = arrays["samples"].astype(np.float32)
    elif what == "pickle":
        arrays["samples"] = np.array([{"a": 1}], object)


@pytest.mark.parametrize("what", ["cut", "offsets", "labels", "missing", "codes", "pickle"])
def test_a_wrong_file_is_a_one_line_error(tmp_path, what):
    with np.load(module.PATH) as file:
        arrays = dict(file)
    damage(arrays, what)
    np.savez(tmp_path / "speech.npz", **arrays)
    with pytest.raises(ConfigError, match=r"speech\.npz: not the utterances of digit_world .*reinstall") as caught:
        module.load(tmp_path / "speech.npz")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("what", ["absent", "empty", "text", "truncated", "flipped"])
def test_a_damaged_file_is_an_error(tmp_path, what):
    path, data = tmp_path / "speech.npz", bytearray(module.PATH.read_bytes())
    if what == "flipped":
        data[len(data) // 2] ^= 0xFF
    bytes_ = {"empty": b"", "text": b"not a zip", "truncated": data[: len(data) // 2], "flipped": data}
    if what != "absent":
        path.write_bytes(bytes_[what])
    with pytest.raises(ConfigError, match="not the utterances"):
        module.load(path)


def test_a_flipped_byte_is_an_error_or_changes_no_array(tmp_path):
    path, rng, whole = tmp_path / "speech.npz", np.random.default_rng(0), speech()
    data = module.PATH.read_bytes()
    for at in [*range(30), *rng.integers(0, len(data), 8), *(len(data) - 1 - rng.integers(0, 600, 12))]:
        path.write_bytes(data[:at] + bytes([data[at] ^ 0x55]) + data[at + 1 :])
        try:
            read = module.load(path)
        except ConfigError:
            continue
        for field in ("samples", "offsets", "digit"):  # the byte was in a date or a comment
            np.testing.assert_array_equal(getattr(read, field), getattr(whole, field))


def test_the_engine_is_not_imported():
    code = "import sys; from codi_jax.digit_world import make_speech; print('espeakng_loader' in sys.modules)"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "False"
