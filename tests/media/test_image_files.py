"""Images as public users have them: greys of any depth, PNG with long texts, HEIC."""

import io
import struct
import sys
import types
import zlib

import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from codi_jax.media import files, png
from codi_jax.media import tiff as tiff_kinds
from codi_jax.media.files import MediaError, MediaFile
from codi_jax.media.image_files import read_image
from codi_jax.media.metadata import probe

RAMP = np.linspace(0, 1, 64 * 64).reshape(64, 64)


def greys(data):
    """The grey levels of a file, of which all channels are the same."""
    pixels = np.asarray(read_image(MediaFile("x", data)))
    assert (pixels == pixels[..., :1]).all()
    return pixels[..., 0]


def saved(image, kind, **options):
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def pgm(values, maxval, plain=False):
    header = f"P{2 if plain else 5}\n{values.shape[1]} {values.shape[0]}\n{maxval}\n".encode()
    if plain:
        return header + " ".join(map(str, values.ravel().tolist())).encode() + b"\n"
    return header + values.astype(">u2" if maxval > 255 else "u1").tobytes()


def tiff(values, bits=None, photometric=1, sample_format=None):
    """A TIFF of one strip, little-endian; Pillow writes no unsigned 32, no 12 bits and no white at 0."""
    kinds = {"u": 1, "i": 2, "f": 3}
    data = values.astype(values.dtype.newbyteorder("<")).tobytes()
    if bits == 12:
        pairs = values.reshape(-1, 2).astype(np.uint32)
        packed = [pairs[:, 0] >> 4, (pairs[:, 0] & 15) << 4 | pairs[:, 1] >> 8, pairs[:, 1] & 255]
        data = np.stack(packed, 1).astype(np.uint8).tobytes()
    bits = bits or values.dtype.itemsize * 8
    height, width = values.shape
    tags = [(256, width), (257, height), (258, bits), (259, 1), (262, photometric), (273, 8), (277, 1)]
    tags += [(278, height), (279, len(data)), (339, sample_format or kinds[values.dtype.kind])]
    table = struct.pack("<H", len(tags)) + b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags)
    return b"II*\0" + struct.pack("<I", 8 + len(data)) + data + table + bytes(4)


@pytest.mark.parametrize("maxval", [255, 1000, 4095, 65535])
@pytest.mark.parametrize("plain", [False, True])
def test_white_of_a_pgm_is_its_maxval(maxval, plain):
    values = np.round(RAMP * maxval).astype(int)
    got = greys(pgm(values, maxval, plain)).astype(int)
    assert got[0, 0] == 0 and got[-1, -1] == 255 and np.abs(got - values * 255 / maxval).max() <= 1
    half = greys(pgm(np.full((4, 4), maxval // 8), maxval, plain))  # a dark image stays dark
    assert np.abs(half.astype(int) - 255 // 8).max() <= 1


@pytest.mark.parametrize("kind", ["png", "tiff", "jpeg2000"])
def test_16_bits_are_the_whole_range(kind):
    values = np.round(RAMP * 65535).astype(np.uint16)
    np.testing.assert_array_equal(greys(saved(Image.fromarray(values), kind)), values >> 8)


@pytest.mark.parametrize("kind", ["png", "tiff", "jpeg2000"])
def test_12_bits_in_16_are_12_bits(kind):
    values = np.round(RAMP * 4095).astype(np.uint16)
    np.testing.assert_array_equal(greys(saved(Image.fromarray(values), kind)), values >> 4)
    values[0, 0] = 4096  # more than 12 bits
    np.testing.assert_array_equal(greys(saved(Image.fromarray(values), kind)), values >> 8)


def test_tiff_of_12_bits():
    values = np.round(RAMP * 4095).astype(np.uint16)
    np.testing.assert_array_equal(greys(tiff(values, bits=12)), values >> 4)
    np.testing.assert_array_equal(greys(tiff(values // 8, bits=12)), values // 8 >> 4)


@pytest.mark.parametrize("dtype", [np.int32, np.uint32])
@pytest.mark.parametrize(("white", "shift"), [(255, 0), (4095, 4), (65535, 8)])
def test_32_bits_have_the_least_range_that_holds_them(dtype, white, shift):
    values = np.round(RAMP * white).astype(dtype)
    np.testing.assert_array_equal(greys(tiff(values)), values >> shift)
    if dtype is np.int32:
        np.testing.assert_array_equal(greys(saved(Image.fromarray(values), "tiff")), values >> shift)


@pytest.mark.parametrize(
    "values",
    [
        np.round(RAMP * (2**32 - 1)).astype(np.uint32),
        np.round(RAMP * (2**31 - 1)).astype(np.int32),
        np.round(RAMP * 3000 - 1000).astype(np.int32),
        np.round(RAMP * 3000 - 1000).astype(np.int16),
        (RAMP * 255).astype(np.float32),
        (RAMP * 2 - 1).astype(np.float32),
        (RAMP * 1e30).astype(np.float32),
    ],
    ids=["uint32", "int32", "negative", "signed 16", "floats of 255", "floats around 0", "large floats"],
)
def test_values_of_no_known_range_have_their_own(values):
    np.testing.assert_allclose(greys(tiff(values)), RAMP * 255, atol=1)


def test_16_bits_with_a_sign():
    values = np.round(RAMP * 32767).astype(np.int16)
    np.testing.assert_array_equal(greys(tiff(values)), values >> 7)


def test_floats_from_0_to_1():
    np.testing.assert_array_equal(
        greys(tiff(RAMP.astype(np.float32))), np.rint(RAMP.astype(np.float32).astype(float) * 255)
    )
    dark = (RAMP / 4).astype(np.float32)  # a dark image stays dark
    assert greys(tiff(dark)).max() == 64
    np.testing.assert_array_equal(greys(saved(Image.fromarray(dark), "tiff")), np.rint(dark.astype(float) * 255))
    pfm = b"Pf\n64 64\n-1.0\n" + RAMP[::-1].astype("<f4").tobytes()
    np.testing.assert_allclose(greys(pfm), RAMP * 255, atol=1)


def test_constant_values():
    assert not greys(tiff(np.full((4, 4), 7.5, np.float32))).any()
    assert not greys(tiff(np.zeros((4, 4), np.int32))).any()


def test_white_at_0():
    for values in (RAMP.astype(np.float32), np.round(RAMP * 65535).astype(np.uint16)):
        np.testing.assert_allclose(greys(tiff(values, photometric=0)), 255 - RAMP * 255, atol=1)


@pytest.mark.parametrize("wrong", [np.nan, np.inf])
def test_floats_that_are_not_finite_are_refused(wrong):
    values = RAMP.astype(np.float32)
    values[3, 4] = wrong
    with pytest.raises(MediaError, match=r"^x: the image has NaN or infinite values$") as error:
        greys(tiff(values))
    assert error.value.reason == "numbers"


@pytest.mark.parametrize(
    ("dtype", "said"),
    [
        ("f8", "1 channel of 64-bit floats"),
        ("f2", "1 channel of 16-bit floats"),
        ("u8", "1 channel of 64-bit unsigned integers"),
        ("i8", "1 channel of 64-bit signed integers"),
    ],
)
def test_a_tiff_that_pillow_does_not_read_is_named_by_its_values(dtype, said):
    data = tiff(np.ones((4, 4), dtype))
    for tag in (258, 277, 339):  # as writers have them: short numbers
        data = data.replace(struct.pack("<HHI", tag, 4, 1), struct.pack("<HHI", tag, 3, 1))
    with pytest.raises(MediaError) as error:
        read_image(MediaFile("x.tif", data))
    assert str(error.value) == (
        f"x.tif: a TIFF of {said}, which is not read; save it as RGB, or as grey of 8 or 16 bits"
    )
    assert error.value.reason == "kind"


def test_the_values_of_large_and_big_endian_tiffs_are_found():
    """Several numbers of a tag stand elsewhere; BigTIFF has offsets of 64 bits."""
    values = struct.pack(">3H", 32, 32, 32)
    tags = struct.pack(">HHII", 258, 3, 3, 200) + struct.pack(">HHIHH", 277, 3, 1, 3, 0)
    tags += struct.pack(">HHIHH", 339, 3, 1, 3, 0)
    classic = (b"MM\0*" + struct.pack(">IH", 8, 3) + tags + bytes(4)).ljust(200, b"\0") + values
    big = b"II+\0" + struct.pack("<HHQQ", 8, 0, 16, 2)
    big += struct.pack("<HHQHHI", 258, 3, 1, 64, 0, 0) + struct.pack("<HHQHHI", 339, 3, 1, 6, 0, 0) + bytes(8)
    said = {"3 channels of 32-bit floats": classic, "1 channel of 64-bit complex numbers": big}
    for kind, data in said.items():
        assert tiff_kinds.unread_kind(io.BytesIO(data)) == (
            f"a TIFF of {kind}, which is not read; save it as RGB, or as grey of 8 or 16 bits"
        )
    for data in (b"II*\0", classic[:20], b"PNG", b"II+\0" + b"\xff" * 20):
        assert tiff_kinds.unread_kind(io.BytesIO(data)) is None


def colours_of_16_bits(values, kind, orientation=1):
    """A PNG or TIFF [H, W, C] of 16 bits: grey and opacity, or red, green, blue and perhaps opacity."""
    height, width, channels = values.shape
    if kind == "png":
        header = struct.pack(">IIBBBBB", width, height, 16, {2: 4, 3: 2, 4: 6}[channels], 0, 0, 0)
        rows = b"".join(b"\0" + row.tobytes() for row in values.astype(">u2"))
        exif = Image.Exif()
        exif[0x0112] = orientation
        chunks = chunk(b"IHDR", header) + chunk(b"eXIf", exif.tobytes().removeprefix(b"Exif\0\0"))
        return b"\x89PNG\r\n\x1a\n" + chunks + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    order = {"tif": "<", "tif, big-endian": ">"}[kind]
    data = values.astype(f"{order}u2").tobytes()
    bits = 8 + len(data)
    tags = [(256, width), (257, height), (258, bits), (259, 1), (262, 2), (273, 8), (274, orientation)]
    tags += [(277, channels), (278, height), (279, len(data))]
    table = struct.pack(f"{order}H", len(tags))
    for tag, value in tags:
        table += struct.pack(f"{order}HHII", tag, 3 if tag == 258 else 4, channels if tag == 258 else 1, value)
    start = struct.pack(f"{order}I", bits + 2 * channels)
    magic = b"II*\0" if order == "<" else b"MM\0*"
    return magic + start + data + struct.pack(f"{order}{channels}H", *[16] * channels) + table + bytes(4)


@pytest.mark.parametrize(("kind", "channels"), [("png", 2), ("png", 3), ("png", 4), ("tif", 3), ("tif, big-endian", 3)])
@pytest.mark.parametrize("bits", [12, 16])
def test_12_bits_in_16_of_colours_are_12_bits(kind, channels, bits):
    """As greys: 0 to 4095, if no value is larger. Opacity is 65535 beside them."""
    values = np.random.default_rng(0).integers(0, 1 << bits, (4, 6, channels))
    values[0, 0] = (1 << bits) - 1
    if channels in (2, 4):
        values[..., -1] = 65535
    levels = np.broadcast_to((values[..., : channels - (channels != 3)] >> (bits - 8)), (4, 6, 3))
    for orientation, turned in ((1, levels), (6, np.rot90(levels, -1))):
        got = np.asarray(read_image(MediaFile("x", colours_of_16_bits(values, kind, orientation))))
        np.testing.assert_array_equal(got, turned)


def test_planes_of_16_bits_are_named():
    """Pillow reads their bytes as values."""
    data = colours_of_16_bits(np.zeros((2, 2, 3), int), "tif").replace(
        struct.pack("<HHII", 274, 4, 1, 1), struct.pack("<HHII", 284, 4, 1, 2)
    )
    with pytest.raises(MediaError, match=r"^x: a TIFF of more than 8 bits in separate planes, which is not read; save"):
        read_image(MediaFile("x", data))


def test_black_of_16_bits_is_black():
    got = np.asarray(read_image(MediaFile("x", colours_of_16_bits(np.zeros((2, 2, 3), int), "png"))))
    assert got.shape == (2, 2, 3) and not got.any()


def test_orientation_and_transparency_of_16_bits():
    values = np.round(RAMP[:32] * 65535).astype(np.uint16)
    exif = Image.Exif()
    exif[0x0112] = 6  # rotated by 90 degrees
    np.testing.assert_array_equal(greys(saved(Image.fromarray(values), "png", exif=exif)), np.rot90(values, -1) >> 8)
    values[:4] = 30_000
    got = greys(saved(Image.fromarray(values), "png", transparency=30_000))
    assert (got[:4] == 255).all() and (got[4:] == values[4:] >> 8).all()


def test_an_image_of_pillow_is_read_as_a_file_is():
    values = np.round(RAMP * 65535)
    for image in (Image.fromarray(values.astype(np.uint16)), Image.fromarray(values.astype(np.int32))):
        np.testing.assert_array_equal(np.asarray(read_image(image))[..., 0], values.astype(int) >> 8)


# PNG with long texts


def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def with_chunks(data, *chunks, before=b"IDAT"):
    """A PNG with chunks before its first chunk of a kind."""
    at = data.index(before) - 4
    return data[:at] + b"".join(chunks) + data[at:]


ZEROS = zlib.compress(bytes(5 << 20))
TEXTS = {
    "zTXt": [chunk(b"zTXt", b"note\0\0" + ZEROS)],
    "iTXt": [chunk(b"iTXt", b"note\0\1\0\0\0" + ZEROS)],
    "tEXt": [chunk(b"tEXt", b"note\0" + b"x" * (33 << 20)) for _ in range(2)],
    "many": [chunk(b"tEXt", b"note\0" + b"x" * (15 << 20)) for _ in range(5)],
    "iCCP": [chunk(b"iCCP", b"profile\0\0" + ZEROS)],
}


@pytest.mark.parametrize("before", [b"IDAT", b"IEND"])
@pytest.mark.parametrize("texts", TEXTS)
def test_a_png_is_read_without_texts_that_are_too_long(texts, before):
    pixels = np.random.default_rng(0).integers(0, 256, (20, 30, 3)).astype(np.uint8)
    data = with_chunks(saved(Image.fromarray(pixels), "png"), *TEXTS[texts], before=before)
    np.testing.assert_array_equal(np.asarray(read_image(MediaFile("x", data))), pixels)
    assert probe(MediaFile("x", data))["width"] == 30


def test_a_png_without_texts_keeps_its_palette_transparency_and_orientation():
    image = Image.new("P", (4, 2), 1)
    image.putpalette([0, 0, 0, 9, 80, 200])
    exif = Image.Exif()
    exif[0x0112] = 6
    data = with_chunks(saved(image, "png", exif=exif), *TEXTS["zTXt"])
    got = np.asarray(read_image(MediaFile("x", data)))
    assert got.shape == (4, 2, 3) and (got == [9, 80, 200]).all()


def test_a_large_chunk_of_a_png_is_not_read(monkeypatch):
    """It is passed over, so that memory stays bounded."""
    monkeypatch.setattr(png, "LARGE", 1000)
    data = with_chunks(saved(Image.new("L", (8, 8), 9), "png"), chunk(b"tEXt", b"note\0" + b"x" * 2000))
    monkeypatch.setattr(
        Image, "open", lambda stream, open=Image.open: (sizes.append(len(stream.read())), open(stream))[1]
    )
    sizes = []
    assert (np.asarray(read_image(MediaFile("x", data))) == 9).all()
    assert len(sizes) == 1 and sizes[0] < 1000


def test_pixels_that_are_too_many_are_large():
    header = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 0, 0, 0, 0)
    data = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")
    with pytest.raises(MediaError, match=rf"^x: over {files.MAX_PIXELS} pixels$") as error:
        read_image(MediaFile("x", data))
    assert error.value.reason == "large"


# HEIC


def heic(*brands):
    """The beginning of a HEIC file."""
    box = b"".join(brands[:1]) + bytes(4) + b"".join(brands[1:])
    return struct.pack(">I", len(box) + 8) + b"ftyp" + box + bytes(400)


BRANDS = [(b"heic", b"mif1", b"heic"), (b"mif1", b"mif1", b"heic"), (b"heix",), (b"msf1", b"hevc")]


@pytest.mark.parametrize("brands", BRANDS)
@pytest.mark.parametrize("read", [read_image, probe])
def test_heic_without_its_library_says_what_to_install(monkeypatch, brands, read):
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    with pytest.raises(MediaError) as error:
        read(MediaFile("x.heic", heic(*brands)))
    assert str(error.value) == "x.heic: a HEIC image, which needs pillow-heif: pip install 'codi_jax[heic]'"
    assert error.value.reason == "kind"


def test_heic_is_read_by_pillow_heif_if_it_is_installed(monkeypatch):
    """By a module of the same function, which registers a plugin with Pillow; it opens every HEIC as one image."""

    def open_heic(stream, filename):
        return Image.new("RGB", (6, 4), (10, 20, 30))

    def register_heif_opener():
        Image.register_open("HEIF", open_heic, lambda begins: begins[4:12] == b"ftypheic")

    monkeypatch.setitem(sys.modules, "pillow_heif", types.SimpleNamespace(register_heif_opener=register_heif_opener))
    monkeypatch.setattr(Image, "ID", list(Image.ID))
    monkeypatch.setattr(Image, "OPEN", dict(Image.OPEN))
    got = np.asarray(read_image(MediaFile("x.heic", heic(*BRANDS[0]))))
    assert got.shape == (4, 6, 3) and (got == [10, 20, 30]).all()


def test_a_cut_heic_is_damaged_and_not_of_an_unknown_format(monkeypatch):
    """Pillow names no format if all plugins refuse a file, as that of pillow-heif does then."""

    def refuse(stream, filename):
        raise SyntaxError("not a HEIF file")

    def register_heif_opener():
        Image.register_open("HEIF", refuse, lambda begins: begins[4:12] == b"ftypheic")

    monkeypatch.setitem(sys.modules, "pillow_heif", types.SimpleNamespace(register_heif_opener=register_heif_opener))
    monkeypatch.setattr(Image, "ID", list(Image.ID))
    monkeypatch.setattr(Image, "OPEN", dict(Image.OPEN))
    with pytest.raises(MediaError, match=r"^x\.heic: not a readable HEIC image; is it whole\?$") as error:
        read_image(MediaFile("x.heic", heic(*BRANDS[0])))
    assert error.value.reason == "damaged"


def test_heic_files_of_pillow_heif():
    pillow_heif = pytest.importorskip("pillow_heif")
    pillow_heif.register_heif_opener()
    data = saved(Image.new("RGB", (64, 48), (90, 150, 30)), "HEIF")
    got = np.asarray(read_image(MediaFile("x.heic", data)))
    assert got.shape == (48, 64, 3) and np.abs(got.astype(int) - [90, 150, 30]).max() < 6


def test_avif_is_no_heic():
    data = saved(Image.new("RGB", (16, 16), (90, 150, 30)), "avif")
    assert np.abs(np.asarray(read_image(MediaFile("x", data))).astype(int) - [90, 150, 30]).max() < 6


def test_text_memory_limits_are_those_of_pillow():
    """The tests above are of texts beyond them."""
    assert PngImagePlugin.MAX_TEXT_CHUNK < 5 << 20 and PngImagePlugin.MAX_TEXT_MEMORY <= 66 << 20
