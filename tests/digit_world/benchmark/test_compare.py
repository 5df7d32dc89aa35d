"""The table of `codi-jax compare`."""

import json

import pytest

from codi_jax.config import ConfigError
from codi_jax.digit_world.benchmark.compare import read, table


def run(**sets):
    cells = {"chance": 0.1, "entropy": 0.9, "fidelity": None}
    row = {"paired": True, "factors": {"digit": {"accuracy": 0.625}}}
    matrix = {"text->image": row, "image->image": {**row, "paired": False}}
    return {
        "n": 8,
        "matrix": matrix,
        "joint": {name: {"digit": {"joint": rate, **cells}} for name, rate in sets.items()},
    }


def test_table_has_columns_for_each_run_and_rows_for_the_sets_of_all_runs():
    lines = table({"a": run(**{"text+image": 0.5, "text+audio": 0.25}), "b": run(**{"text+image": 0.75})}).splitlines()
    assert lines[0] == "Prompt to output: a n = 8, b n = 8"
    assert [line.split() for line in lines[1:4]] == [
        ["right", "digit", "a", "b"],
        ["text->image", "0.625", "0.625"],
        ["image->image", "0.625", "★", "0.625", "★"],
    ]
    assert lines[4:6] == ["", "Outputs generated together, null prompt"]
    assert lines[6].split() == ["a", "b"]
    assert lines[7].split() == ["same", "digit", *["joint", "chance", "entropy", "fidelity"] * 2]
    assert [line.split() for line in lines[8:]] == [
        ["text+image", "0.500", "0.100", "0.900", "0.750", "0.100", "0.900"]
    ]


def test_rows_have_the_order_of_the_evaluation_and_not_of_the_file(tmp_path):
    names = ["text+image", "audio+video", "text+image+audio+video"]
    metrics = run(**dict.fromkeys(names, 0.5))
    directions = ["text->text", "text->audio", "audio->text", "audio->audio"]
    metrics["matrix"] = {direction: metrics["matrix"]["text->image"] for direction in directions}
    (tmp_path / "metrics.json").write_text(json.dumps(metrics, sort_keys=True))
    lines = [line.split()[0] for line in table({"a": read(tmp_path)}).splitlines() if line and line[0] != " "]
    assert [line for line in lines if "->" in line or "+" in line] == directions + names


def test_parts_of_an_evaluation_are_compared_and_validation_samples_are_named():
    whole, part = run(**{"text+image": 0.5}), {**run(**{"text+image": 0.75}), "matrix": {}, "split": "val"}
    lines = table({"a": whole, "b": part}).splitlines()
    assert lines[0] == "Prompt to output: a n = 8, b n = 8 (validation samples)"
    assert not any("->" in line for line in lines) and lines[-1].split()[:2] == ["text+image", "0.500"]
    assert "+" not in table({"a": whole, "b": {**part, "joint": {}}})


def test_a_run_without_metrics_is_an_error(tmp_path):
    with pytest.raises(ConfigError, match=r"no metrics; run `codi-jax evaluate"):
        read(tmp_path)
    (tmp_path / "metrics.json").write_text("[]")
    with pytest.raises(ConfigError, match="no metrics"):
        read(tmp_path)
    (tmp_path / "metrics.json").write_text(json.dumps(run()))
    assert read(tmp_path)["n"] == 8
