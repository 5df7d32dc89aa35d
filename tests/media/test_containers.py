"""Sound in every container and codec that PyAV can write: the samples are those of the decoder, at any clock."""

import io

import av
import numpy as np
import pytest

from codi_jax.media.files import MediaFile, read_audio, seconds

SECONDS = 1.5
WRITTEN = {
    "matroska": ("aac", "libmp3lame", "libopus", "flac", "pcm_s16le", "ac3", "alac", "mp2"),
    "webm": ("libopus",),
    "mp4": ("aac", "libmp3lame", "flac", "libopus"),
    "mov": ("aac", "pcm_s16le"),
    "ipod": ("aac", "alac"),
    "avi": ("aac", "libmp3lame", "pcm_s16le"),
    "flv": ("aac", "libmp3lame"),
    "asf": ("libmp3lame",),
    "mpegts": ("aac", "libmp3lame", "ac3"),
    "mpeg": ("mp2",),
    "nut": ("aac",),
    "rm": ("ac3",),
    "ogg": ("libopus", "flac"),
    "adts": ("aac",),
    "mp3": ("libmp3lame",),
    "mp2": ("mp2",),
    "ac3": ("ac3",),
    "flac": ("flac",),
    "wav": ("pcm_s16le", "pcm_f32le"),
    "w64": ("pcm_s16le",),
    "au": ("pcm_s16be",),
    "aiff": ("pcm_s16be",),
    "caf": ("pcm_s16le",),
    "tta": ("tta",),
    "wv": ("wavpack",),
}
FILES = [
    pytest.param(container, codec, rate, id=f"{container}-{codec}-{rate}")
    for container, codecs in WRITTEN.items()
    for codec in codecs
    for rate in (44_100, 48_000)
    if codec != "libopus" or rate == 48_000  # the only one of the two that Opus has
]


def tone(rate: int, seconds: float = SECONDS) -> np.ndarray:
    return (0.5 * np.sin(2 * np.pi * 440 * np.arange(round(seconds * rate)) / rate)).astype(np.float32)


def written(container: str, codec: str, rate: int, lost: range = range(0)) -> bytes:
    """A file with the tone; packets in `lost` are left out."""
    file = io.BytesIO()
    with av.open(file, "w", format=container) as out:
        stream = out.add_stream(codec, rate=rate)
        stream.layout = "mono"
        split = av.AudioResampler(stream.format.name, "mono", rate, frame_size=stream.codec_context.frame_size or 1024)
        frame = av.AudioFrame.from_ndarray(tone(rate)[None], format="fltp", layout="mono")
        frame.sample_rate, frame.pts = rate, 0
        parts = [part for x in (frame, None) for part in split.resample(x)]
        packets = [packet for x in (*parts, None) for packet in stream.encode(x)]
        out.mux([packet for i, packet in enumerate(packets) if i not in lost])
    return file.getvalue()


def decoded(data: bytes) -> np.ndarray:
    """Everything that FFmpeg decodes, without a look at times."""
    with av.open(io.BytesIO(data)) as container:
        planar = av.AudioResampler(format="fltp")
        parts = [part for frame in container.decode(audio=0) for part in planar.resample(frame)]
    return np.concatenate([part.to_ndarray().mean(0) for part in parts])


def decibels(want: np.ndarray, got: np.ndarray) -> float:
    """Signal to noise ratio."""
    return 10 * np.log10(np.square(want).sum() / max(np.square(want - got).sum(), 1e-12))


@pytest.mark.parametrize("container, codec, rate", FILES)
def test_a_tone_is_what_the_decoder_gives(container, codec, rate):
    data = written(container, codec, rate)
    n = round((SECONDS - 0.1) * rate)
    assert decibels(decoded(data)[:n], read_audio(MediaFile("x", data), n, rate)) > 50
    assert 0 <= seconds(MediaFile("x", data)) - SECONDS < 0.05  # an encoder pads to whole frames
    assert seconds(MediaFile("x", data, 1.0, 0.25)) == 0.25


@pytest.mark.parametrize("rate", [44_100, 48_000])
@pytest.mark.parametrize("container, codec", [("matroska", "aac"), ("matroska", "pcm_s16le"), ("flv", "libmp3lame")])
def test_sound_after_lost_packets_stays_where_it_was(container, codec, rate):
    whole, cut = (
        read_audio(MediaFile("x", written(container, codec, rate, gone)), round(1.4 * rate), rate)
        for gone in (range(0), range(20, 25))
    )
    assert np.count_nonzero(cut[: round(1.1 * rate)] == 0) > 4 * 1024
    after = slice(round(1.1 * rate), round(1.4 * rate))
    # The first packet after the gap is at its rounded time, up to a millisecond from its true one.
    shifts = range(-rate // 1000 - 1, rate // 1000 + 2)
    assert max(decibels(whole[after], np.roll(cut, shift)[after]) for shift in shifts) > 40
