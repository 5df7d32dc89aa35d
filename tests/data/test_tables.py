"""Tables: headers, lists in json, joined tables, selected rows, folders, and errors."""

import json

import pytest

from codi_jax.config import ConfigError
from codi_jax.data.folder import FolderTable
from codi_jax.data.manifest import Manifest, ManifestConfig
from codi_jax.data.tables import read_table
from codi_jax.media.files import MediaError
from codi_jax.media.image_files import read_image


def captions(path, **config):
    """The captions of a table without files."""
    manifest = Manifest(ManifestConfig(str(path), {"modalities": ("text",)}, **config))
    return [manifest[i].get("text") for i in range(len(manifest))]


def test_a_header_from_the_config_and_comments_above_the_rows(tmp_path):
    (tmp_path / "x.csv").write_text('# a comment, of two words\n# id, text\na, "one, two"\nb, "three"\n')
    assert captions(tmp_path / "x.csv", header=("id", "text")) == ["one, two", "three"]
    (tmp_path / "x.tsv").write_text("a\tone\nb\t# two\n")
    assert captions(tmp_path / "x.tsv", header=("id", "text")) == ["one", "# two"]
    with pytest.raises(ConfigError, match=r"x\.csv: row 3 has a different number of columns than the header"):
        captions(tmp_path / "x.csv", header=("id", "text", "more"))


def test_spaces_around_the_names_of_columns_do_not_count(tmp_path):
    (tmp_path / "x.csv").write_text("id , text \na, one\n")
    assert captions(tmp_path / "x.csv") == ["one"]
    (tmp_path / "x.tsv").write_bytes('\ufeffid\ttext \r\na\t"two" words\r\n'.encode())
    assert captions(tmp_path / "x.tsv") == ['"two" words']


def test_a_file_name_that_is_a_whole_image_is_shown_briefly(tmp_path):
    """As of a table whose images are in base64."""
    with pytest.raises(MediaError) as error:
        read_image("iVBORw0KGgo" * 100_000)
    assert str(error.value) == f"{('iVBORw0KGgo' * 6)[:60]}… (1100000 characters): no such image file"


def test_rows_of_several_files(tmp_path):
    for k in range(3):
        (tmp_path / f"{k}.csv").write_text(f"text\ncaption {k}\n")
    every = ["caption 0", "caption 1", "caption 2"]
    assert captions(tmp_path / "{0..2}.csv") == captions(tmp_path / "*.csv") == every
    assert captions(f"{tmp_path}/2.csv, {tmp_path}/0.csv") == every[::-2]
    (tmp_path / "a,b.csv").write_text("text\nof a file with a comma\n")
    assert captions(tmp_path / "a,b.csv") == ["of a file with a comma"]
    (tmp_path / "x.json").write_text("[]")
    with pytest.raises(ConfigError, match="a table of several files has one format"):
        captions(f"{tmp_path}/0.csv,{tmp_path}/x.json")


def test_objects_on_lines_of_a_json_file(tmp_path):
    (tmp_path / "x.json").write_text('{"text": "a"}\n{"text": "b"}\n')
    assert captions(tmp_path / "x.json") == ["a", "b"]


@pytest.fixture
def tree(tmp_path):
    tree = {
        "info": {"year": 2017},
        "images": [{"id": 1, "text": ""}, {"id": 2, "x": "x"}, {"id": 3}],
        "annotations": [
            {"image_id": "1", "caption": "one"},
            {"image_id": 2, "caption": "two"},
            {"image_id": 1, "caption": ["uno", "eins"]},
        ],
        "deep": {"rows": [{"text": "deep"}]},
    }
    (tmp_path / "x.json").write_text(json.dumps(tree))
    return tmp_path / "x.json"


def test_a_joined_table_of_the_same_file(tree):
    """Keys are compared as text; values of several rows are a list; a row without a match has no value."""
    config = {"columns": {"text": "caption"}, "rows": "images"}
    join = {"rows": "annotations", "column": "id", "key": "image_id"}
    assert captions(tree, **config, join=join) == [["one", "uno", "eins"], "two", None]
    manifest = Manifest(ManifestConfig(str(tree), {"modalities": ("text",)}, **config, join=join))
    assert manifest.notes() == ["1 rows have no 'id' in the second table"]
    assert captions(tree, **config, join=join, where="id=2") == ["two"]
    assert captions(tree, rows="deep/rows") == ["deep"]


def test_several_keys_in_one_value(tmp_path):
    (tmp_path / "x.csv").write_text('labels\n"/m/1, /m/2"\n/m/2\n')
    (tmp_path / "names.csv").write_text("mid,name\n/m/1,Speech\n/m/2,Music\n")
    join = {"path": str(tmp_path / "names.csv"), "column": "labels", "key": "mid", "separator": ","}
    assert captions(tmp_path / "x.csv", join=join, columns={"text": "name"}) == [["Speech", "Music"], "Music"]
    assert captions(tmp_path / "x.csv", join=join, columns={"text": "{name}"}) == ["Speech, Music", "Music"]


@pytest.mark.parametrize(
    ("config", "says"),
    [
        ({}, "not a list of objects; rows names one of its lists: images, annotations"),
        ({"rows": "video"}, "no list 'video'; its lists are images, annotations"),
        ({"rows": "info"}, "info: not a list of objects"),
        ({"rows": "images", "header": ("a",)}, "header names the columns of csv and tsv only"),
        ({"rows": "images", "where": "split"}, "manifest where: expected COLUMN=VALUE, got 'split'"),
        ({"rows": "images", "where": "split=train"}, "no column 'split'; columns are id, text, x"),
        ({"rows": "images", "where": "id=9"}, "the table has no rows with id=9"),
        ({"rows": "images", "columns": {"text": "{nam}.txt"}}, "no column 'nam'; columns are id, text, x"),
        ({"rows": "images", "columns": {"text": ("text", "b")}}, "no column 'b'; columns are id, text, x"),
        ({"rows": "images", "columns": {"text": ""}}, "manifest columns: none is given for text"),
        ({"rows": "images", "columns": {"text": 3}}, "expected str, got 3"),
        ({"rows": "images", "join": {"rows": "annotations"}}, "manifest join: column, the column of the first"),
        ({"rows": "images", "join": {"rows": "annotations", "column": "key"}}, "no column 'key'; columns are id"),
        ({"rows": "images", "join": {"rows": "annotations", "column": "id"}}, "annotations: no column 'id'; columns"),
        (
            {"rows": "images", "join": {"rows": "annotations", "column": "x", "key": "caption"}},
            "no value of 'x' is a 'caption' of the second table",
        ),
        ({"columns": {"end": "b", "duration": "c"}}, "duration and end say the same"),
    ],
)
def test_a_bad_config(tree, config, says):
    with pytest.raises(ConfigError) as error:
        captions(tree, **config)
    assert says in str(error.value) and "\n" not in str(error.value)


def test_a_value_that_the_template_cannot_write_is_a_bad_sample(tmp_path):
    (tmp_path / "x.csv").write_text("text,start\na,soon\n")
    with pytest.raises(MediaError, match=r"^row 0: text: start is not what the format '06d' writes: 'soon'$") as error:
        captions(tmp_path / "x.csv", columns={"text": "{start:06d}"})
    assert error.value.reason == "value"


def test_a_folder_as_a_table(tmp_path):
    for name in ("b/2.JPG", "b/2.wav", "b/2.mp3", "a/1.png", ".hidden/3.png", "__MACOSX/4.png", "b/x.xyz", "b/5.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    (tmp_path / "a" / "1.txt").write_text("one")
    (tmp_path / "b" / "2.json").write_text('{"caption": "two"}')
    table = FolderTable(str(tmp_path))
    first = {"key": "a/1", "folder": "a", "image": "a/1.png", "text": "one"}
    second = {"key": "b/2", "folder": "b", "image": "b/2.JPG", "audio": "b/2.mp3", "json": {"caption": "two"}}
    assert [table[i] for i in range(len(table))] == [first, second] and table.others == {"xyz": 1}
    assert captions(tmp_path, columns={"text": "json/caption"}) == [None, "two"]
    assert captions(tmp_path, columns={"text": "a {folder}"}, where="folder=b") == ["a b"]
    manifest = Manifest(ManifestConfig(str(tmp_path), {"modalities": ("text",)}))
    assert manifest.notes() == ["files of other kinds are passed over: xyz 1"]


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("txt", b"\xff\xfe", "value"),
        ("txt", bytes(2 << 20), "large"),
        ("json", b"{oh", "value"),
        ("json", b"[" * 9999, "value"),
    ],
)
def test_a_caption_beside_a_file_that_cannot_be_read(tmp_path, name, content, reason):
    (tmp_path / "1.png").write_bytes(b"")
    (tmp_path / f"1.{name}").write_bytes(content)
    with pytest.raises(MediaError) as error:
        captions(tmp_path, columns={"text": "json/caption"} if name == "json" else {})
    assert error.value.reason == reason and "\n" not in str(error.value)


def test_a_folder_without_media(tmp_path):
    with pytest.raises(ConfigError, match="the table has no rows"):
        captions(tmp_path)
    with pytest.raises(ConfigError, match="no such folder"):
        FolderTable(str(tmp_path / "absent"))
    with pytest.raises(ConfigError, match=r"absent\.csv: no such file"):
        read_table([str(tmp_path / "absent.csv")])
