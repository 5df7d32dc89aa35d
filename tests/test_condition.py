"""What a condition says: spans, frames, cells of a grid, and waveforms that are joined."""

import numpy as np
import pytest

from codi_jax.condition import Condition, blocks, frames, in_spans, is_spans, spans
from codi_jax.config import ConfigError
from codi_jax.media.joined import join_waveforms


def test_spans_of_time():
    assert spans("0-0.5s, .8-1.s", "audio") == [(0.0, 0.5), (0.8, 1.0)]
    assert is_spans("0-1s") and not is_spans("0-1")
    np.testing.assert_array_equal(in_spans(np.arange(5) / 4, [(0, 0.25), (0.5, 0.75)]), [1, 0, 1, 0, 0])


@pytest.mark.parametrize("text", ["1-0s", "0-0s", "0-1", "-1-2s", "a-bs", "", "0-1s,"])
def test_other_spans_are_refused(text):
    with pytest.raises(ConfigError, match=r"^audio: keep: expected spans of seconds, such as 0-0.5s, got "):
        spans(text, "audio")


def test_numbers_of_frames():
    np.testing.assert_array_equal(frames("0,5-7", 8, "video"), [1, 0, 0, 0, 0, 1, 1, 1])
    for text in ("8", "3-2", "0,8", "x", "-1", "1.5"):
        with pytest.raises(ConfigError, match=r"^video: keep: expected frames from 0 to 7, such as 0,7, or seconds"):
            frames(text, 8, "video")


def test_a_cell_is_kept_if_all_of_it_is():
    kept = np.array([[1, 1, 1, 0], [1, 1, 1, 1], [1, 0, 1, 1], [1, 1, 1, 1]], bool)
    np.testing.assert_array_equal(blocks(kept, (2, 2)), [[1, 0], [0, 1]])
    np.testing.assert_array_equal(blocks(np.array([1, 1, 1, 0, 1], bool), (2,)), [1, 0])  # 3 and 2 of 5


def test_a_condition_is_whole_a_part_or_a_change():
    assert Condition("a").whole and not Condition("a", strength=0.5).whole and not Condition("a", keep="0-1s").whole
    assert Condition("a", mask="m").partial and not Condition("a", strength=0.5).partial
    with pytest.raises(ConfigError, match="give one of them"):
        Condition("a", keep="0", mask="m")
    for strength in (0, -1, 1.1, "x", float("nan")):
        with pytest.raises(ConfigError, match="expected more than 0, and at most 1"):
            Condition("a", strength=strength)


def test_kept_samples_have_their_bits_and_meet_the_others_without_a_step():
    rate, n = 1000, 40
    value = np.arange(n, dtype=np.int16) * 10 + 1000
    generated = np.full(n, -500, np.int16)
    kept = (np.arange(n) < 10) | (np.arange(n) >= 30)
    joined = join_waveforms(generated, value, kept, rate)
    np.testing.assert_array_equal(joined[kept], value[kept])
    assert joined[10] == value[9] and joined[29] == value[30]  # the level of the kept neighbour
    np.testing.assert_array_equal(joined[10:16], np.round(-500 + (1090 + 500) * np.array([1, 0.8, 0.6, 0.4, 0.2, 0])))
    np.testing.assert_array_equal(joined[15:25], -500)


def test_a_waveform_without_edges_is_the_generated_one():
    generated = np.arange(-5, 5, dtype=np.int16)
    np.testing.assert_array_equal(join_waveforms(generated, generated * 0, np.zeros(10, bool), 1000), generated)
    longer = join_waveforms(generated, np.full(6, 7, np.int16), np.arange(6) < 6, 10**6)
    np.testing.assert_array_equal(longer[:6], 7)


def test_a_normalised_waveform_gets_the_loudness_of_the_value():
    value = np.array([100, -100, 300, -300] * 10, np.int16)
    generated = (np.sin(np.arange(40)) * 16384).astype(np.int16)  # a peak of one half
    joined = join_waveforms(generated, value, np.arange(40) < 0, 1000, normalized=True)
    assert 280 <= np.abs(joined).max() <= 300
