"""The benchmark of joint generation on the packaged model and on a small preset; no claim about times."""

import json

from benchmarks.joint import main


def test_operations_of_joint_generation_are_those_of_its_parts(tmp_path, capsys):
    file = tmp_path / "joint.json"
    main(["--steps=2", "--repeats=1", f"--json={file}"])
    result = json.loads(file.read_text())
    rows = {row["outputs"]: row["flops_of_a_step"] for row in result["rows"]}
    calls = {row["output"]: row for row in result["calls"]}
    assert list(rows) == ["audio", "video", "audio+video"]
    for name in ("audio", "video"):
        assert abs(rows[name] / (2 * calls[name]["denoiser"]) - 1) < 0.01
    expected = sum(3 * (c["denoiser"] + c["cross"]) + c["environment"] for c in calls.values())
    assert abs(rows["audio+video"] / expected - 1) < 0.01
    assert "together over the sum" in capsys.readouterr().out
