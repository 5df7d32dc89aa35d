"""Rows of tables of text, read by where they begin."""

import csv
import io
import json
import os
import time

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st

from codi_jax.config import ConfigError
from codi_jax.data import row_index
from codi_jax.data.row_index import TextTable
from codi_jax.media.files import MediaError

CELLS = st.text(st.sampled_from('ab ,"\n\r\t;ü\u2028\ufeff'), max_size=8)


@hypothesis.settings(suppress_health_check=[hypothesis.HealthCheck.function_scoped_fixture], max_examples=100)
@hypothesis.given(st.lists(st.tuples(CELLS, CELLS), max_size=6), st.sampled_from(["\n", "\r\n", "\r"]), st.data())
def test_rows_of_a_csv_are_those_of_the_csv_module(tmp_path, rows, end, data):
    file = io.StringIO(newline="")
    writer = csv.writer(file, lineterminator=end, quoting=csv.QUOTE_ALL)  # else it leaves "\\r" without quotes
    for row in [("text", "image"), *rows]:
        writer.writerow(row)
        file.write(data.draw(st.sampled_from(["", end])))
    text = data.draw(st.sampled_from(["", "\ufeff"])) + file.getvalue()
    (tmp_path / "x.csv").write_bytes(text.encode())
    table = TextTable(str(tmp_path / "x.csv"), ",")
    expected = list(csv.DictReader(io.StringIO(text.removeprefix("\ufeff"), newline=""), strict=True))
    assert [table[i] for i in range(len(table))] == expected


def test_rows_of_a_jsonl(tmp_path):
    rows = [{"text": f"a {i}\u2028 ü", "n": [i]} for i in range(5)]
    text = "\n \n".join(json.dumps(row, ensure_ascii=False) for row in rows)
    (tmp_path / "x.jsonl").write_bytes(b"\xef\xbb\xbf" + text.encode())
    table = TextTable(str(tmp_path / "x.jsonl"))
    assert [table[i] for i in (4, 0, 1, 2, 3)] == [rows[i] for i in (4, 0, 1, 2, 3)] and len(table) == 5


def test_a_column_is_that_of_all_rows(tmp_path):
    (tmp_path / "x.csv").write_text('a,b\n1,"x\ny"\n2,\n')
    (tmp_path / "y.csv").write_text("# made in 2026\n# a, b\n1, x\n2,#\n")
    (tmp_path / "x.jsonl").write_text('{"a": 1}\n\n{"a": 2, "b": [3]}\n')
    table, named = TextTable(str(tmp_path / "x.csv"), ","), TextTable(str(tmp_path / "y.csv"), ",", ("a", "b"))
    assert table.values("b") == ["x\ny", ""] and named.values("b") == ["x", "#"]
    assert [named[i] for i in range(len(named))] == [{"a": "1", "b": "x"}, {"a": "2", "b": "#"}]
    lines = TextTable(str(tmp_path / "x.jsonl"))
    assert lines.values("b") == [None, [3]] and table.values("c") == [None, None]
    assert table.columns == named.columns == lines.columns == {"a", "b"}


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("x.csv", b'a,b\n"1,2\n', r"x\.csv: row 2 is no row of a table \(a quote does not end\)$"),
        ("x.csv", b"a,b\n\n1,2\n1\n", r"x\.csv: row 3 has a different number of columns than the header$"),
        ("x.csv", b"a,b\n1,\xff\n", r"x\.csv: not UTF-8 \(byte 6\)$"),
        ("x.jsonl", b'{"a": 1}\n{oh\n', r"x\.jsonl, line 2: not JSON"),
        ("x.jsonl", b'{"a": 1}\n[2]\n', r"x\.jsonl: not a list of objects$"),
    ],
)
def test_what_is_no_table_is_one_line(tmp_path, name, content, says):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ConfigError, match=says):
        TextTable(str(tmp_path / name), "," * name.endswith("csv"))


def test_starts_are_kept_as_long_as_the_table_is_the_same(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(row_index, "MIN_CACHED", 0)
    path = tmp_path / "x.csv"
    path.write_text("a,b\n1,2\n3,4\n")
    first = TextTable(str(path), ",")
    assert isinstance(first._starts, np.memmap) and len(os.listdir(tmp_path / "codi_jax" / "rows")) == 1
    with monkeypatch.context() as patch:
        patch.setattr(TextTable, "_scan", lambda self: pytest.fail("the table is read again"))
        assert TextTable(str(path), ",")[1] == {"a": "3", "b": "4"}
    for damage in (b"", b"no array", b"\x93NUMPY", b"\x93NUMPY\1\0\x0a\0\0((((((((("):
        (file,) = (tmp_path / "codi_jax" / "rows").iterdir()
        file.unlink()
        file.write_bytes(damage)
        assert TextTable(str(path), ",")[1] == {"a": "3", "b": "4"}
    time.sleep(0.02)  # the clock of a file system has ticks of some milliseconds
    path.write_text("a,b\n1,2\n5,6\n")
    assert TextTable(str(path), ",")[1] == {"a": "5", "b": "6"}


def test_a_table_that_changes_during_a_run_gives_bad_samples(tmp_path):
    path = tmp_path / "x.csv"
    path.write_text("a,b\n1,2\n3,4\n")
    table = TextTable(str(path), ",")
    path.write_text("a,b\n1")
    for index in range(2):
        with pytest.raises(MediaError, match=f"row {index} is not what it was when the table was opened"):
            table[index]


TSV = (
    'caption\timage\n"hello" she said\t1.png\n"a quote that does not end\t2.png\n'
    '"a ""b"" c"\t3.png\nhe said "no"\t4.png\n"whole"\t5.png\n'
)


def test_quotes_of_a_tsv_mean_nothing(tmp_path):
    """Captions begin with quotes, as in Conceptual Captions; a field that csv writers have quoted is that field."""
    (tmp_path / "x.tsv").write_text(TSV)
    table = TextTable(str(tmp_path / "x.tsv"), "\t")
    captions = ['"hello" she said', '"a quote that does not end', 'a "b" c', 'he said "no"', "whole"]
    assert [table[i] for i in range(len(table))] == [
        {"caption": caption, "image": f"{i}.png"} for i, caption in enumerate(captions, 1)
    ]
    assert table.values("caption") == captions


@hypothesis.settings(suppress_health_check=[hypothesis.HealthCheck.function_scoped_fixture], max_examples=60)
@hypothesis.given(st.lists(st.tuples(*[st.text(st.sampled_from('ab"; ü'), max_size=6)] * 2), max_size=5))
def test_rows_of_a_tsv_that_csv_writers_wrote_are_read_back(tmp_path, rows):
    file = io.StringIO(newline="")
    csv.writer(file, delimiter="\t", quoting=csv.QUOTE_ALL).writerows([("text", "image"), *rows])
    (tmp_path / "x.tsv").write_bytes(file.getvalue().encode())
    table = TextTable(str(tmp_path / "x.tsv"), "\t")
    assert [tuple(table[i].values()) for i in range(len(table))] == rows


def test_a_tsv_with_a_row_of_several_lines_names_it(tmp_path):
    (tmp_path / "x.tsv").write_text('caption\timage\na\t1.png\n"two\nlines"\t2.png\n')
    with pytest.raises(ConfigError, match=r"row 3 has a different number .* the header; in a tsv, a row is a line$"):
        TextTable(str(tmp_path / "x.tsv"), "\t")


def test_rows_of_a_tsv_in_the_cache_are_those_without_quotes(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(row_index, "MIN_CACHED", 0)
    (tmp_path / "x.tsv").write_text(TSV)
    for _ in range(2):
        assert TextTable(str(tmp_path / "x.tsv"), "\t")[1]["caption"] == '"a quote that does not end'
