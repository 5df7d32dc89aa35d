"""Waveforms that are joined, by hand."""

import numpy as np

from codi_jax.media.joined import join_waveforms


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
