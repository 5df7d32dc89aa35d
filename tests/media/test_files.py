"""Audio, video and image files: round trips, intervals, and one-line errors for every bad file."""

import subprocess
import sys

import av
import numpy as np
import pytest
from PIL import Image

from codi_jax.config import ConfigError
from codi_jax.media import files
from codi_jax.media.image_files import read_image

RATE = 8000


def colours(frames=8, size=32):
    """A video whose frames each have another colour; the lower half is black."""
    out = np.zeros((frames, size, size, 3), np.uint8)
    out[:, : size // 2] = np.linspace((40, 200, 60), (220, 40, 160), frames)[:, None, None]
    return out


def tone(samples=8192, hertz=440.0, rate=RATE):
    return np.round(20000 * np.sin(2 * np.pi * hertz * np.arange(samples) / rate)).astype(np.int16)


@pytest.fixture(scope="module")
def video(tmp_path_factory):
    path = tmp_path_factory.mktemp("video") / "x.mp4"
    files.write_video(path, colours(), 8.0)
    return path


@pytest.fixture(scope="module")
def audio(tmp_path_factory):
    path = tmp_path_factory.mktemp("audio") / "tone.wav"
    files.write_wav(path, tone(), RATE)
    return path


# Round trips


def close(a, b, within=12):
    """H.264 halves its colour planes, so edges differ; nearly everything else is close."""
    return (np.abs(a.astype(int) - b.astype(int)).max(-1) <= within).mean() > 0.9


def test_a_video_survives_a_round_trip(video):
    got = files.read_video(video, 8, 8.0, 32)
    assert got.shape == (8, 32, 32, 3) and got.dtype == np.uint8
    assert all(close(a, b) for a, b in zip(got, colours(), strict=True))


@pytest.mark.parametrize("rate", [8.0, 7.5, 29.97])
def test_a_video_of_any_rate_survives_a_round_trip(tmp_path, rate):
    files.write_video(tmp_path / "x.mp4", colours(6), rate)
    got = files.read_video(tmp_path / "x.mp4", 6, rate, 32)
    assert all(close(a, b) for a, b in zip(got, colours(6), strict=True))


def test_frame_k_is_the_one_shown_at_second_k_over_rate(video):
    # The file has 8 frames per second: at a rate of 4 every other frame is read, at 16 each frame twice.
    assert all(close(a, b) for a, b in zip(files.read_video(video, 4, 4.0, 32), colours()[::2], strict=True))
    assert all(
        close(a, b) for a, b in zip(files.read_video(video, 8, 16.0, 32), colours()[:4].repeat(2, 0), strict=True)
    )


def test_a_short_video_repeats_its_last_frame(video):
    got = files.read_video(video, 11, 8.0, 32)
    assert got.shape[0] == 11
    assert all(close(frame, colours()[-1]) for frame in got[7:])


def test_frames_are_center_cropped_and_resized(tmp_path):
    wide = np.zeros((3, 64, 128, 3), np.uint8)
    wide[:, :, 32:96] = (200, 100, 50)
    files.write_video(tmp_path / "wide.mp4", wide, 8.0)
    got = files.read_video(tmp_path / "wide.mp4", 3, 8.0, 16)
    assert got.shape == (3, 16, 16, 3)
    assert np.abs(got[:, 2:-2, 2:-2].astype(int) - (200, 100, 50)).max() < 12


def test_audio_survives_a_round_trip(audio):
    got = files.read_audio(audio, 8192, RATE)
    assert got.shape == (8192,) and got.dtype == np.float32
    np.testing.assert_allclose(got, tone() / 32768, atol=1e-6)


def test_short_audio_is_padded_with_zeros_and_long_audio_is_cut(audio):
    got = files.read_audio(audio, 10_000, RATE)
    np.testing.assert_array_equal(got[8192:], 0)
    np.testing.assert_array_equal(files.read_audio(audio, 1000, RATE), got[:1000])


def test_stereo_audio_of_another_rate_becomes_mono_at_the_rate(tmp_path):
    left = tone(44_100, rate=44_100)
    with av.open(str(tmp_path / "stereo.wav"), "w") as container:
        stream = container.add_stream("pcm_s16le", rate=44_100, layout="stereo")
        frame = av.AudioFrame.from_ndarray(np.stack([left, left], 1).reshape(1, -1), format="s16", layout="stereo")
        frame.sample_rate = 44_100
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    got = files.read_audio(tmp_path / "stereo.wav", RATE, RATE)
    spectrum = np.abs(np.fft.rfft(got[1000:7000] * np.hanning(6000)))
    assert abs(spectrum.argmax() * RATE / 6000 - 440) < 2
    want = np.abs(tone()).max() / 32768
    assert np.abs(got[1000:7000]).max() == pytest.approx(want, rel=0.02)


def test_write_wav_accepts_a_binary_file(audio, tmp_path):
    with (tmp_path / "x.wav").open("wb") as file:
        files.write_wav(file, tone(), RATE)
    assert (tmp_path / "x.wav").read_bytes() == audio.read_bytes()


# Intervals of a file


def flash_and_click(path, at, codec="aac", rate=16_000, fps=10, seconds=4):
    """A video with one white frame and a click in the audio at the start of that frame."""
    audio = np.zeros(rate * seconds, np.float32)
    audio[round(at * rate)] = 1
    audio[round(at * rate) + 1] = -1
    with av.open(str(path), "w") as container:
        video_stream = container.add_stream("libx264", rate=fps)
        video_stream.width = video_stream.height = 64
        video_stream.options = {"g": "15"}
        audio_stream = container.add_stream(codec, rate=rate, layout="mono")
        for k in range(fps * seconds):
            grey = np.full((64, 64, 3), 255 if k == round(at * fps) else 0, np.uint8)
            container.mux(video_stream.encode(av.VideoFrame.from_ndarray(grey, format="rgb24")))
        container.mux(video_stream.encode(None))
        for start in range(0, len(audio), 1024):
            frame = av.AudioFrame.from_ndarray(audio[None, start : start + 1024], format="fltp", layout="mono")
            frame.sample_rate, frame.pts = rate, start
            container.mux(audio_stream.encode(frame))
        container.mux(audio_stream.encode(None))


@pytest.mark.parametrize("start", [0.0, 0.7, 1.5, 2.0])
@pytest.mark.parametrize(
    ("name", "codec"), [("x.mp4", "aac"), ("x.mkv", "flac"), ("x.ts", "aac"), ("x.mov", "pcm_s16le")]
)
def test_audio_and_video_of_an_interval_are_in_sync_to_the_sample(tmp_path, name, codec, start):
    path, at = tmp_path / name, 2.4
    flash_and_click(path, at, codec)
    part = files.MediaFile(str(path), start=start)
    heard = files.read_audio(part, 48_000, 16_000)
    assert np.abs(heard).argmax() in (round((at - start) * 16_000), round((at - start) * 16_000) + 1)
    seen = files.read_video(part, 25, 10.0, 16)
    # Frames are at tenths of a second; a start between two frames shows the earlier one.
    assert seen.mean((1, 2, 3)).argmax() == np.ceil(round((at - start) * 10, 6))


def test_an_interval_ends_after_its_duration(tmp_path):
    flash_and_click(tmp_path / "x.mp4", 2.4)
    part = files.MediaFile(str(tmp_path / "x.mp4"), start=1.0, duration=1.0)
    assert np.abs(files.read_audio(part, 32_000, 16_000)).max() < 0.05
    assert files.read_video(part, 30, 10.0, 16).max() < 30
    part = files.MediaFile(str(tmp_path / "x.mp4"), start=2.0, duration=1.0)
    assert not files.read_audio(part, 32_000, 16_000)[16_000:].any()
    assert files.read_video(part, 30, 10.0, 16)[4].min() > 200


def test_a_file_in_memory_is_read_like_one_on_disk(video, audio):
    for read, path in (
        (lambda m: files.read_video(m, 8, 8.0, 32), video),
        (lambda m: files.read_audio(m, 9000, RATE), audio),
    ):
        np.testing.assert_array_equal(read(files.MediaFile("a/b", path.read_bytes())), read(path))


def test_an_interval_outside_the_file(video, audio):
    for read, path in (
        (lambda m: files.read_video(m, 8, 8.0, 32), video),
        (lambda m: files.read_audio(m, 900, RATE), audio),
    ):
        with pytest.raises(ConfigError, match="after second 5"):
            read(files.MediaFile(str(path), start=5.0))
        for wrong in ({"start": -1.0}, {"start": float("nan")}, {"duration": 0.0}):
            with pytest.raises(ConfigError, match="no interval with start"):
                files.MediaFile(str(path), **wrong)


def test_audio_with_nan_samples(tmp_path):
    wave = np.zeros((1, 1000), np.float32)
    wave[0, 500] = np.nan
    with av.open(str(tmp_path / "nan.wav"), "w") as container:
        stream = container.add_stream("pcm_f32le", rate=RATE, layout="mono")
        frame = av.AudioFrame.from_ndarray(wave, format="flt", layout="mono")
        frame.sample_rate = RATE
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    with pytest.raises(ConfigError, match="NaN or infinite"):
        files.read_audio(tmp_path / "nan.wav", 1000, RATE)


# Images


def test_images_of_every_mode_are_read_as_rgb(tmp_path):
    rgb = np.zeros((4, 6, 3), np.uint8)
    rgb[:, :3], rgb[:, 3:] = (200, 30, 60), (20, 90, 220)
    whole = Image.fromarray(rgb)

    def saved(name, image, **options):
        image.save(tmp_path / name, **options)
        got = read_image(tmp_path / name)
        assert got.mode == "RGB"
        return np.asarray(got)

    np.testing.assert_array_equal(saved("a.png", whole), rgb)
    np.testing.assert_array_equal(saved("p.png", whole.quantize(4)), rgb)
    np.testing.assert_array_equal(saved("l.png", Image.fromarray(rgb[..., 0])), rgb[..., :1].repeat(3, -1))
    deep = Image.fromarray(rgb[..., 0].astype(np.uint16) * 257)
    np.testing.assert_array_equal(saved("16.png", deep), rgb[..., :1].repeat(3, -1))
    clear = whole.convert("RGBA")
    clear.putalpha(Image.fromarray(np.uint8([[0, 255, 255, 0, 255, 255]] * 4)))
    on_white = rgb.copy()
    on_white[:, [0, 3]] = 255
    np.testing.assert_array_equal(saved("alpha.png", clear), on_white)
    assert np.abs(saved("cmyk.jpg", whole.convert("CMYK"), quality=100).astype(int) - rgb).mean() < 25
    exif = Image.Exif()
    exif[0x0112] = 6  # rotated by 90 degrees
    turned = saved("exif.jpg", whole, quality=100, subsampling=0, exif=exif)
    assert turned.shape == (6, 4, 3) and np.abs(turned.astype(int) - np.rot90(rgb, -1)).max() < 12


def test_files_that_are_not_images(tmp_path, audio, monkeypatch):
    Image.effect_noise((40, 40), 50).save(tmp_path / "noise.png")
    whole = (tmp_path / "noise.png").read_bytes()
    for content, reason, says in (
        (b"", "empty", "an empty file"),
        (b"a text", "kind", "not an image of a known format"),
        (audio.read_bytes(), "kind", "not an image of a known format"),
        (whole[:500], "cut", "not a readable image"),
        (whole[:60] + bytes(40) + whole[100:], "damaged", "not a readable image"),
    ):
        (tmp_path / "x.png").write_bytes(content)
        assert says in refused(read_image, tmp_path / "x.png", reason)
    assert "no such image" in refused(read_image, tmp_path / "absent.png", "missing")
    monkeypatch.setattr(files, "MAX_PIXELS", 1000)
    assert "40x40 is over 1000 pixels" in refused(read_image, tmp_path / "noise.png", "large")


# Bad files

readers = pytest.mark.parametrize(
    ("read", "kind"),
    [
        (lambda path: files.read_video(path, 8, 8.0, 32), "video"),
        (lambda path: files.read_audio(path, 8192, RATE), "audio"),
    ],
    ids=["video", "audio"],
)


def refused(read, path, reason=None):
    """The one-line error message for a file."""
    with pytest.raises(ConfigError) as error:
        read(path)
    assert reason is None or error.value.reason == reason
    message = str(error.value)
    assert message.startswith(f"{path}: ") and "\n" not in message
    return message


@readers
def test_a_missing_file(read, kind, tmp_path):
    assert refused(read, tmp_path / "absent").endswith(f"no such {kind} file")
    assert refused(read, tmp_path).endswith(f"no such {kind} file")


@readers
@pytest.mark.parametrize("content", [b"", b"a text", bytes(1000), b"RIFF\0\0\0\0WAVE", b"\0\0\0\x1cftypisom"])
def test_an_empty_or_garbage_file(read, kind, tmp_path, content):
    path = tmp_path / "broken"
    path.write_bytes(content)
    refused(read, path)


@readers
def test_random_bytes_give_a_one_line_error(read, kind, tmp_path):
    rng = np.random.default_rng(0)
    for head in (b"", b"RIFF$\0\0\0WAVEfmt \x10\0\0\0", b"\0\0\0\x18ftypmp42", b"OggS", b"ID3", b"\xff\xd8\xff"):
        path = tmp_path / "noise.mp4"
        path.write_bytes(head + rng.integers(0, 256, 3000, np.uint8).tobytes())
        try:
            got = read(path)
        except ConfigError as error:
            assert str(error).startswith(f"{path}: ") and "\n" not in str(error)
        else:  # FFmpeg took the noise for raw audio: then the output has the right size
            assert got.shape in ((8192,), (8, 32, 32, 3)) and np.isfinite(got).all()


def test_a_truncated_video(video, tmp_path):
    path, whole = tmp_path / "cut.mp4", video.read_bytes()
    for size in (10, 100, len(whole) // 2, len(whole) - 200):  # the index of an mp4 is at its end
        path.write_bytes(whole[:size])
        refused(lambda path: files.read_video(path, 8, 8.0, 32), path)


def test_a_truncated_wav(audio, tmp_path):
    path, whole = tmp_path / "cut.wav", audio.read_bytes()
    for size in (10, 40, 44):
        path.write_bytes(whole[:size])
        refused(lambda path: files.read_audio(path, 8192, RATE), path)
    path.write_bytes(whole[: 44 + 2 * 1000])
    got = files.read_audio(path, 8192, RATE)  # the samples before the cut
    np.testing.assert_allclose(got[:1000], tone()[:1000] / 32768, atol=1e-6)
    assert not got[1000:].any()


def test_a_video_without_audio_and_an_audio_file_without_video(video, audio):
    message = refused(lambda p: files.read_audio(p, 8192, RATE), video)
    assert message.endswith("has no audio stream")
    message = refused(lambda p: files.read_video(p, 8, 8.0, 32), audio)
    assert message.endswith("has no video stream")


def test_a_playlist_opens_no_other_file_and_no_url(video, tmp_path):
    for k, line in enumerate([str(video), "http://127.0.0.1:9/x.mp4", f"file:{video}"]):
        path = tmp_path / f"list{k}.m3u8"
        path.write_text(f"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n{line}\n#EXT-X-ENDLIST\n")
        refused(lambda p: files.read_video(p, 8, 8.0, 32), path)
        refused(lambda p: files.read_audio(p, 8192, RATE), path)
    path = tmp_path / "list.txt"
    path.write_text(f"ffconcat version 1.0\nfile '{video}'\n")
    refused(lambda p: files.read_video(p, 8, 8.0, 32), path)


# Size limits


@readers
def test_a_large_file_is_not_opened(read, kind, tmp_path, monkeypatch):
    monkeypatch.setattr(files, "MAX_BYTES", 1 << 20)
    path = tmp_path / "large"
    with path.open("wb") as file:
        file.truncate((1 << 20) + 1)
    assert refused(read, path).endswith("larger than 1 MiB")


def test_frames_with_too_many_pixels(video, monkeypatch):
    monkeypatch.setattr(files, "MAX_PIXELS", 100)
    assert "256x256 is over 100 pixels" in refused(lambda p: files.read_video(p, 8, 8.0, 32), video)


def test_no_more_frames_are_decoded_than_needed(video, monkeypatch):
    monkeypatch.setattr(files, "MAX_FRAMES", 5)
    assert files.read_video(video, 3, 8.0, 32).shape[0] == 3
    message = refused(lambda p: files.read_video(p, 3, 1.0, 32), video)
    assert message.endswith("3 frames at 1 a second are more than 5 frames of the file")


def test_no_more_audio_is_decoded_than_needed(tmp_path, monkeypatch):
    path = tmp_path / "long.wav"
    files.write_wav(path, tone(RATE * 60), RATE)
    decoded, make = [], av.AudioResampler

    class Counted:
        def __init__(self, **options):
            self.resampler = make(**options)

        def resample(self, frame):
            decoded.append(0 if frame is None else frame.samples)
            return self.resampler.resample(frame)

    monkeypatch.setattr(av, "AudioResampler", Counted)
    assert files.read_audio(path, 1000, RATE).shape == (1000,)
    assert sum(decoded) < 10_000


def test_the_error_without_pyav_says_what_to_install(tmp_path):
    code = (
        "import sys; sys.modules['av'] = None\n"
        "from codi_jax.config import ConfigError\nfrom codi_jax.media import files\n"
        "try:\n    files.read_audio('x.wav', 8, 8)\nexcept ConfigError as e:\n    print(e)\n"
    )
    (tmp_path / "x.wav").write_bytes(b"RIFF")
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=tmp_path)
    assert out.stdout == "audio and video files need PyAV: pip install 'codi_jax[media]'\n"
