"""Parquet: row groups are read as they are needed, and errors."""

import io
import sys

import pytest
from PIL import Image

from codi_jax.config import ConfigError
from codi_jax.data import manifest, parquet
from codi_jax.data.manifest import Manifest, ManifestConfig
from codi_jax.data.parquet import ParquetTable
from codi_jax.data.recognition import recognize
from codi_jax.data.source import make_source
from codi_jax.media.files import MediaError

pyarrow = pytest.importorskip("pyarrow")
from pyarrow import parquet as writer  # noqa: E402


def row(i):
    image = {"bytes": bytes([i]) * 50, "path": f"{i}.jpg"}
    return {"n": i, "caption": f"row {i}", "jpg": bytes([i]) * 100, "image": image}


@pytest.fixture
def paths(tmp_path):
    """Two files of 5 and 3 rows in groups of two, with bytes plain and in a struct."""
    out = []
    for name, ids in (("0", range(5)), ("1", range(5, 8))):
        rows = [
            {
                "n": i,
                "caption": f"row {i}",
                "jpg": bytes([i]) * 100,
                "image": {"bytes": bytes([i]) * 50, "path": f"{i}.jpg"},
            }
            for i in ids
        ]
        writer.write_table(pyarrow.Table.from_pylist(rows), tmp_path / f"{name}.parquet", row_group_size=2)
        out.append(str(tmp_path / f"{name}.parquet"))
    return out


@pytest.fixture
def reads(monkeypatch):
    """The row groups that are read, in order."""
    found, read = [], writer.ParquetFile.read_row_group

    def counted(self, group, columns):
        found.append((group, columns))
        return read(self, group, columns=columns)

    monkeypatch.setattr(writer.ParquetFile, "read_row_group", counted)
    return found


def test_rows_of_all_files(paths):
    table = ParquetTable(paths)
    assert len(table) == 8 and table.columns == {"n", "caption", "jpg", "image"}
    for i in (7, 0, 4, 5, 3):
        assert table[i] == row(i)
    assert table.values("n") == list(range(8))
    with pytest.raises(ConfigError, match="column 'jpg' holds bytes"):
        table.values("jpg")


def test_only_what_is_asked_for_is_read(paths, reads, monkeypatch):
    table = ParquetTable(paths, {"caption"})
    assert len(reads) == 5 and table[3] == {"caption": "row 3"}
    assert len(reads) == 5 and all(columns == ["caption"] for _, columns in reads)
    table = ParquetTable(paths, {"n", "jpg"})
    assert all(columns == ["n"] for _, columns in reads[5:])
    reads.clear()
    for i in (2, 3, 2, 0, 7):
        assert table[i] == {"n": i, "jpg": bytes([i]) * 100}
    assert reads == [(1, ["jpg"]), (0, ["jpg"]), (1, ["jpg"])]
    monkeypatch.setattr(parquet, "KEPT_BYTES", 250)  # of one group
    for i in (4, 5, 4):
        table[i]
    assert [i for i, _ in reads[3:]] == [2, 0, 2]


def test_bytes_become_files_and_paths_are_relative_to_the_root(paths, tmp_path):
    def record(columns, i=1, **media):
        media = {"modalities": ("text", "image"), **media}
        return Manifest(ManifestConfig(paths[0], media, columns={"text": "caption", **columns}))[i]

    assert record({})["image"].data == bytes([1]) * 50 and record({"image": "jpg"})["image"].data == bytes([1]) * 100
    assert record({"image": "image/path"})["image"].name == str(tmp_path / "1.jpg")
    with pytest.raises(MediaError, match="row 1: image is neither a path nor bytes: 1"):
        record({"image": "n"})
    with pytest.raises(ConfigError, match="column 'jpg' holds bytes"):
        Manifest(ManifestConfig(paths[0], {"modalities": ("text",)}, columns={"text": "caption"}, where="jpg=1"))


def test_large_row_groups_are_named(paths, monkeypatch):
    source = Manifest(ManifestConfig(paths[0], {"modalities": ("image",)}, columns={"image": "jpg"}))
    assert source.notes() == []
    monkeypatch.setattr(manifest, "LARGE_GROUP", 100)
    assert source.notes() == ["a sample reads its row group, up to 0 MiB; with fewer rows in each it is faster"]


def test_damaged_and_large_files(paths, tmp_path, monkeypatch):
    table = ParquetTable(paths)
    content = bytearray((tmp_path / "1.parquet").read_bytes())
    content[4:200] = bytes(196)
    (tmp_path / "1.parquet").write_bytes(content)
    with pytest.raises(MediaError, match=r"row 6: .*1\.parquet: not a readable parquet file") as error:
        table[6]
    assert error.value.reason == "damaged" and "\n" not in str(error.value)
    (tmp_path / "0.parquet").unlink()
    with pytest.raises(MediaError, match=r"0\.parquet: no such file"):
        table[1]
    writer.write_table(pyarrow.table({"n": [1]}), tmp_path / "0.parquet")
    with pytest.raises(ConfigError, match=r"0\.parquet: no column '.*', which .*1\.parquet has"):
        ParquetTable([paths[1], paths[0]])
    writer.write_table(pyarrow.table({"jpg": [b"x" * 1000]}), tmp_path / "0.parquet", use_dictionary=False)
    monkeypatch.setattr(parquet, "MAX_GROUP_BYTES", 500)
    with pytest.raises(ConfigError, match=r"row group 0 has 0\.0 GiB; write it again with row groups of at most"):
        ParquetTable([paths[0]])
    writer.write_table(pyarrow.table({"text": ["x" * 1000]}), tmp_path / "0.parquet")
    monkeypatch.setattr(parquet, "MAX_BYTES", 500)
    with pytest.raises(ConfigError, match="columns text are larger than"):
        ParquetTable([paths[0]])


def test_without_pyarrow(paths, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(ConfigError, match=r"^parquet files need pyarrow: pip install 'codi_jax\[parquet\]'$"):
        ParquetTable(paths)


# Images in columns, as public users write them


def png(shade):
    file = io.BytesIO()
    Image.new("L", (8, 8), shade).save(file, "png")
    return file.getvalue()


IMAGES = [png(40), png(80)]
STRUCT = pyarrow.struct({"bytes": pyarrow.binary(), "path": pyarrow.string()})
LARGE = pyarrow.struct({"bytes": pyarrow.large_binary(), "path": pyarrow.large_string()})
COLUMNS = {
    "binary": (IMAGES, pyarrow.binary()),
    "large_binary": (IMAGES, pyarrow.large_binary()),
    "fixed_size_binary": (IMAGES, pyarrow.binary(len(IMAGES[0]))),
    "binary_view": (IMAGES, pyarrow.binary_view()),
    "struct": ([{"bytes": data, "path": "x.png"} for data in IMAGES], STRUCT),
    "struct without a path": ([{"bytes": data, "path": None} for data in IMAGES], STRUCT),
    "struct of a path": ([{"bytes": None, "path": f"{i}.png"} for i in range(2)], STRUCT),
    "large struct": ([{"bytes": data, "path": None} for data in IMAGES], LARGE),
    "list of one struct": ([[{"bytes": data, "path": None}] for data in IMAGES], pyarrow.list_(STRUCT)),
    "path": ([f"{i}.png" for i in range(2)], pyarrow.string()),
    "large path": ([f"{i}.png" for i in range(2)], pyarrow.large_string()),
}


def of_column(folder, values, kind, captions=("a", "b")):
    table = pyarrow.table({"caption": list(captions), "image": pyarrow.array(values, kind)})
    writer.write_table(table, folder / "x.parquet")
    for i, data in enumerate(IMAGES):
        (folder / f"{i}.png").write_bytes(data)
    media = {"modalities": ("text", "image"), "size": 8}
    return {"name": "manifest", "path": str(folder / "x.parquet"), "columns": {"text": "caption"}, "media": media}


@pytest.mark.parametrize("kind", COLUMNS)
def test_images_of_every_kind_of_column(tmp_path, kind):
    config = of_column(tmp_path, *COLUMNS[kind])
    source = make_source(config)
    assert [int(source.source[i]["image"][0, 0, 0]) for i in range(2)] == [40, 80]
    if not kind.startswith("list"):
        assert recognize(config["path"]).config["media"] == {"modalities": ("text", "image")}


@pytest.mark.parametrize(
    ("values", "kind", "says"),
    [
        ([None, None], pyarrow.binary(), "row 0: no image"),
        ([[IMAGES[0], IMAGES[1]]] * 2, pyarrow.list_(pyarrow.binary()), "row 0: image is neither a path nor bytes"),
        ([{"bytes": None, "path": None}] * 2, STRUCT, "row 0: image is neither a path nor bytes"),
        ([b"no image"] * 2, pyarrow.binary(), "row 0, image: not an image of a known format"),
    ],
)
def test_a_row_without_an_image_is_named(tmp_path, values, kind, says):
    with pytest.raises(MediaError) as error:
        make_source(of_column(tmp_path, values, kind)).source[0]
    assert str(error.value).startswith(says) and len(str(error.value)) < 200


def test_captions_of_bytes(tmp_path):
    config = of_column(tmp_path, *COLUMNS["binary"], captions=("a ü".encode(), b"\xff"))
    source = make_source(config).source
    assert source[0]["text"]["caption"] == "a ü"
    with pytest.raises(MediaError, match=r"^row 1: text: not UTF-8$"):
        source[1]
