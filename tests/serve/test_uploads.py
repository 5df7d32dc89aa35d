"""Files of clients: of all kinds, hostile ones refused in one line, within bounds, in a process that can be killed."""

import io
import re
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from benchmarks import fuzz_files
from codi_jax.config import ConfigError
from codi_jax.data import decoder_pool
from codi_jax.data.decoder_pool import SubprocessDecoder
from codi_jax.media.files import MediaFile
from codi_jax.serve.uploads import Bounds, Uploads
from tests import toy


@pytest.fixture(scope="module")
def codi():
    return toy.codi(*toy.EVERYTHING)


@pytest.fixture(scope="module")
def uploads(codi):
    made = Uploads(codi, Bounds(200_000, 1_000_000, 5.0))
    yield made
    made.close()


def png(image):
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()


def bomb(width, height):
    """A PNG of a few bytes that says it is large."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")


GOOD = {"image": fuzz_files.IMAGES["png"], "audio": fuzz_files.AUDIO["flac"], "video": fuzz_files.VIDEO["mp4"]}


@pytest.mark.parametrize("name", GOOD)
def test_a_file_is_read_as_by_a_pipeline(uploads, codi, name, tmp_path):
    path = tmp_path / "file"
    path.write_bytes(GOOD[name]())
    value = uploads.read(name, str(path))
    np.testing.assert_array_equal(value, codi[name].raw_from_user(path.read_bytes()))
    np.testing.assert_array_equal(value, uploads.read(name, path.read_bytes()))
    np.testing.assert_array_equal(value, codi[name].raw_from_user(value))  # so that it can be given again


def test_what_is_painted_over(uploads, codi):
    side = codi["image"].value_format["size"]
    picture = Image.new("RGBA", (4 * side, 2 * side))
    picture.paste((255, 0, 0, 255), (2 * side, 0, 4 * side, 2 * side))
    painted = uploads.read_painted("image", png(picture))
    assert painted.dtype == bool and painted.shape == (side, side)
    assert painted[:, side // 2 + 2 :].all() and not painted[:, : side // 2 - 2].any()
    assert not uploads.read_painted("image", png(Image.new("RGBA", (9, 9)))).any()


BAD = {
    "nothing": (b"", "an empty file"),
    "text": (b"<svg xmlns='http://www.w3.org/2000/svg'/>", ""),
    "script": (b"#!/bin/sh\nrm -rf /\n", ""),
    "playlist": (b"#EXTM3U\n#EXTINF:1,\nfile:///etc/passwd\n", ""),
    "concat": (b"ffconcat version 1.0\nfile /etc/passwd\n", ""),
    "noise": (np.random.default_rng(0).bytes(5000), ""),
    "large": (bytes(200_001), "the file is larger than 0.2 MB"),
}


@pytest.mark.parametrize("name", GOOD)
@pytest.mark.parametrize("kind", BAD)
def test_a_hostile_file_is_refused_in_one_line(uploads, name, kind, tmp_path):
    data, message = BAD[kind]
    path = tmp_path / "secret-name"
    path.write_bytes(data)
    with pytest.raises(ConfigError) as error:
        uploads.read(name, str(path))
    line = str(error.value)
    assert message in line and "\n" not in line and name in line
    assert str(tmp_path) not in line and "passwd" not in line


@pytest.mark.parametrize("name", GOOD)
def test_a_damaged_file_is_read_or_refused(uploads, name):
    rng, data = np.random.default_rng(1), GOOD[name]()
    for _ in range(15):
        damaged = bytearray(data[: rng.integers(10, len(data) + 1)])
        for at in rng.integers(0, len(damaged), 5):
            damaged[at] = rng.integers(256)
        try:
            uploads.read(name, bytes(damaged))
        except ConfigError as error:
            assert "\n" not in str(error)


def test_a_bomb_is_not_unpacked(uploads):
    with pytest.raises(ConfigError, match="the file of image: 5000x5000 is over 1 megapixels"):
        uploads.read("image", bomb(5000, 5000))
    with pytest.raises(ConfigError, match="what is painted over image: 5000x5000 is over 1 megapixels"):
        uploads.read_painted("image", bomb(5000, 5000))
    with pytest.raises(ConfigError, match="the file of image: over 67108864 pixels"):  # Pillow itself refuses it
        uploads.read("image", bomb(20_000, 20_000))


def test_a_file_that_is_too_long_is_refused(codi):
    made = Uploads(codi, Bounds(200_000, 1_000_000, 0.5))
    try:
        with pytest.raises(ConfigError, match=re.escape("the file of audio: 1 seconds long; at most 0.5")):
            made.read("audio", GOOD["audio"]())
    finally:
        made.close()


def test_a_file_that_is_gone(uploads, tmp_path):
    with pytest.raises(ConfigError, match=r"^image: the file is gone; give it again$"):
        uploads.read("image", str(tmp_path / "gone.png"))


def test_a_decoder_that_hangs_is_killed_and_the_next_file_read(codi, monkeypatch):
    made = Uploads(codi, Bounds(200_000, 1_000_000, 5.0), timeout_s=0.5)
    try:
        start = decoder_pool._start_process
        command = ["sleep", "60"]
        popen = decoder_pool.subprocess.Popen
        monkeypatch.setattr(
            decoder_pool,
            "_start_process",
            lambda: popen(command, stdin=decoder_pool.subprocess.PIPE, stdout=decoder_pool.subprocess.PIPE),
        )
        with pytest.raises(ConfigError, match=r"the file of image: not decoded within 0\.5 seconds"):
            made.read("image", GOOD["image"]())
        monkeypatch.setattr(decoder_pool, "_start_process", start)
        made._decoder._timeout_s = 60.0
        assert made.read("image", GOOD["image"]()).dtype == np.uint8
    finally:
        made.close()


def test_a_decoder_measures_what_it_does_not_decode():
    decoder = SubprocessDecoder(60)
    try:
        assert decoder.measure(MediaFile("an image", GOOD["image"]())) == (60, 40, 0)
        width, height, seconds = decoder.measure(MediaFile("a video", GOOD["video"]()))
        assert (width, height) == (48, 32) and 0.9 < seconds < 1.1
        assert decoder.read_square(MediaFile("an image", GOOD["image"]()), 7).shape == (7, 7, 3)
        with pytest.raises(ConfigError, match="an image"):
            decoder.read_opacity(MediaFile("an image", b"no image"), 7)
    finally:
        decoder.close()
