import io

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given
from PIL import Image

from codi_jax.config import ConfigError
from codi_jax.data import arrayrecord
from codi_jax.data.arrayrecord import ArrayRecords
from codi_jax.data.source import make_source, read_batch
from codi_jax.media.files import MediaError

MEDIA = {"modalities": ("text", "image"), "size": 8}


def png(shade):
    file = io.BytesIO()
    Image.new("RGB", (12, 10), (shade, shade, shade)).save(file, "png")
    return file.getvalue()


@pytest.fixture(scope="module")
def records(tmp_path_factory):
    """Ten records in two files."""
    folder = tmp_path_factory.mktemp("records")
    rows = [{"text": [f"caption {i}", "other"], "image": png(i), "z": {"mean": np.arange(3.0) + i}} for i in range(10)]
    arrayrecord.write(folder / "b.arrayrecord", rows[4:])
    arrayrecord.write(folder / "a.arrayrecord", rows[:4])
    return folder


def source(records, **changes):
    return make_source({"name": "arrayrecord", "path": f"{records}/*.arrayrecord", **changes})


def test_records_are_indexed_in_the_order_of_the_files(records):
    rows = source(records)
    assert len(rows) == 10
    for i in (9, 0, 4, 3):
        assert rows[i]["text"] == [f"caption {i}", "other"]
        np.testing.assert_array_equal(rows[i]["z"]["mean"], np.arange(3.0) + i)


def test_media_are_decoded(records):
    samples = read_batch(source(records, media=MEDIA), [7, 2])
    assert samples["image"].shape == (2, 8, 8, 3)
    assert [x.mean() for x in samples["image"]] == [7, 2]
    assert {text.split()[0] for text in samples["text"]["caption"]} <= {"caption", "other"}


@pytest.mark.parametrize(
    "record, says, reason",
    [
        ({"text": "a"}, r"record 1: no image", "missing"),
        ({"text": "a", "image": "a.png"}, r"record 1: image is not the bytes of a file", "value"),
        ({"text": "a", "image": b"not an image"}, r"record 1, image: not an image of a known format", "kind"),
    ],
)
def test_records_that_cannot_be_used_are_replaced(tmp_path, record, says, reason):
    arrayrecord.write(tmp_path / "x.arrayrecord", [{"text": "good", "image": png(1)}, record])
    rows = make_source(
        {
            "name": "arrayrecord",
            "path": str(tmp_path / "x.arrayrecord"),
            "media": MEDIA,
            "faults": {"max_bad_fraction": 1.0},
        }
    )
    with pytest.raises(MediaError, match=says) as error:
        rows.source[1]
    assert error.value.reason == reason
    assert rows[1]["text"]["caption"] == "good"


def test_an_interval_of_audio_is_read(tmp_path):
    from codi_jax.media import files

    wav = io.BytesIO()
    files.write_wav(wav, np.arange(8000, dtype=np.int16), 8000)
    arrayrecord.write(tmp_path / "x.arrayrecord", [{"audio": wav.getvalue(), "start": 0.5, "duration": 0.25}])
    media = {"modalities": ("audio",), "samples": 4000, "sample_rate": 8000, "timeout_s": 0}
    rows = make_source({"name": "arrayrecord", "path": str(tmp_path / "x.arrayrecord"), "media": media})
    np.testing.assert_array_equal(rows[0]["audio"], [*range(4000, 6000), *[0] * 2000])


@given(st.integers(0, 200), st.binary(min_size=1, max_size=40))
def test_a_damaged_file_is_read_or_one_error(records, at, noise):
    path = records / "damaged"
    data = bytearray((records / "b.arrayrecord").read_bytes())
    # Damage both ends of the file, which hold the metadata.
    for place in (at, len(data) - 1 - at):
        data[place : place + len(noise)] = noise
    path.write_bytes(data)
    try:
        rows = ArrayRecords(str(path))
    except ConfigError as error:
        assert "not ArrayRecord files" in str(error)
        return
    for i in range(len(rows)):
        try:
            assert isinstance(rows[i], dict)
        except MediaError as error:
            assert error.reason in ("damaged", "value")


def test_a_record_that_is_not_a_mapping_in_msgpack(tmp_path):
    from array_record.python.array_record_module import ArrayRecordWriter

    writer = ArrayRecordWriter(str(tmp_path / "x"), "group_size:1")
    for data in (b"\x93\x01\x02\x03", b"\xc1", b"", b"\x81\xa1x\xc7\x02\x01\x93\x90"):
        writer.write(data)
    writer.close()
    rows = ArrayRecords(str(tmp_path / "x"))
    reasons = []
    for i in range(4):
        with pytest.raises(MediaError, match=f"record {i}: (not a mapping in msgpack|cannot be decoded)") as error:
            rows[i]
        reasons.append(error.value.reason)
    assert reasons == ["value", "damaged", "damaged", "damaged"]


def test_bad_paths(tmp_path):
    with pytest.raises(ConfigError, match="no such file"):
        ArrayRecords(str(tmp_path / "absent*"))
    (tmp_path / "x").write_bytes(b"no records" * 10_000)
    with pytest.raises(ConfigError, match="not ArrayRecord files"):
        ArrayRecords(str(tmp_path / "x"))
