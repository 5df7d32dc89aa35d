"""The comparison with diffusers on a tiny network: rows, equal numbers and a file; no claim about times."""

import json

import pytest

pytest.importorskip("torch")
pytest.importorskip("diffusers")

from benchmarks.unet import main


def test_both_frameworks_compute_the_same_and_every_case_is_measured(tmp_path, capsys):
    file = tmp_path / "unet.json"
    main(["--tiny", "--pixels=64", "--repeats=1", "--steps=2", "--variants=eager", f"--json={file}"])
    result = json.loads(file.read_text())
    assert [(row["measure"], row["tokens"]) for row in result["rows"]] == [
        ("forward", 77),
        ("gradient", 77),
        ("sampling", 77),
        ("forward", 1),
        ("gradient", 1),
    ]
    for row in result["rows"]:
        assert row["flops"] > 0 and row["ratios"]["eager"] > 0
    differences = result["relative_differences"]
    assert differences.keys() == {"forward", "gradient", "sampling"}
    assert max(value for values in differences.values() for value in values.values()) < 1e-4
    assert "forward on CPU over the faster of diffusers' not measured (goal ≥ 1, then 1.2)" in capsys.readouterr().out
