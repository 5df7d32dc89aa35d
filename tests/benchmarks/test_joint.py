"""The benchmark of joint generation on a toy model; no claim about times."""

import json

import pytest

from benchmarks import joint
from codi_jax.sampling.config import GenerateConfig
from tests import toy


@pytest.mark.slow
def test_operations_of_joint_generation_are_those_of_its_parts(tmp_path, capsys, monkeypatch):
    codi = toy.codi()
    monkeypatch.setattr(joint, "packaged", lambda name: (codi, toy.variables(codi), GenerateConfig({})))
    file = tmp_path / "joint.json"
    joint.main(["--outputs=image,text", "--steps=2", "--repeats=1", f"--json={file}"])
    result = json.loads(file.read_text())
    rows = {row["outputs"]: row["flops_of_a_step"] for row in result["rows"]}
    calls = {row["output"]: row for row in result["calls"]}
    assert list(rows) == ["text", "image", "text+image"]
    for name in codi.modalities:  # two branches, which share what comes before the prompt
        assert 1.5 * calls[name]["denoiser"] < rows[name] < 2 * calls[name]["denoiser"]
    joint_only = sum(c["cross"] + c["environment"] for c in calls.values())
    most = sum(2 * c["denoiser"] for c in calls.values())
    assert rows["text"] + rows["image"] + joint_only <= rows["text+image"] <= most + joint_only
    assert "together over the sum" in capsys.readouterr().out
    printed = joint.parts_table(
        [{"output": n, "denoiser": g, "cross": 0, "environment": 0} for n, g in (("a", 1e9), ("b", 2e9))]
    )
    assert [line.split()[:2] for line in printed.splitlines()[1:]] == [["a", "1.000"], ["b", "2.000"]]
