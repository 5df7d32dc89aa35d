"""The benchmark of few steps on a toy model; no claim about its quality."""

import dataclasses
import json
from types import SimpleNamespace

import jax.numpy as jnp
import numpy as np
import pytest

from benchmarks import few_steps
from codi_jax.diffusion.guidance import ClassifierFreeGuidance
from codi_jax.sampling.config import GenerateConfig
from codi_jax.train.recipe import open_run
from tests import toy


def test_calls_are_those_of_every_branch_that_is_evaluated():
    rule = ClassifierFreeGuidance(4.0, 8.0)
    full = GenerateConfig(dict.fromkeys(toy.PAIR, rule), steps=3)
    assert few_steps.calls(toy.codi(), full) == 2 * 3 * 3  # outputs, branches, steps
    half = dataclasses.replace(full, guidance={"text": rule, "image": dataclasses.replace(rule, low=0.5)})
    assert few_steps.calls(toy.codi(), half) == 3 * 3 + (3 + 3 + 1)  # at t = 999, 666 and 332
    none = dict.fromkeys(toy.PAIR, ClassifierFreeGuidance(1.0, 1.0))
    assert few_steps.calls(toy.codi(), dataclasses.replace(full, guidance=none)) == 2 * 3


@pytest.mark.slow
def test_full_plain_and_student_are_measured_with_their_weights_and_settings(tmp_path, monkeypatch, capsys):
    config = toy.config()
    config.evaluate.update(reference=8, judges=str(toy.random_package()))
    variables = toy.variables(toy.codi())
    teacher = SimpleNamespace(run=open_run(config, None), variables=variables)
    with config.unlocked():
        config.generate.update(
            steps=1, delay={"image": 1}, guidance={name: {"prompt": 1.0, "environment": 1.0} for name in toy.PAIR}
        )
    changed = {**variables["params"]["vision_unet"], "head": {**variables["params"]["vision_unet"]["head"]}}
    student = SimpleNamespace(
        run=open_run(config, None),
        variables={**variables, "params": {**variables["params"], "vision_unet": _scaled(changed)}},
    )
    monkeypatch.setattr(few_steps, "Model", lambda workdir, package: teacher if package else student)
    seen, evaluated = few_steps.Evaluation.run, []

    def run(evaluation):
        evaluated.append((evaluation.variables["params"]["vision_unet"], evaluation.config.generate))
        return seen(evaluation)

    monkeypatch.setattr(few_steps.Evaluation, "run", run)
    file = tmp_path / "few_steps.json"
    few_steps.main(["--distilled=toy", "--n=2", "--joint=4", "--repeats=1", f"--json={file}"])
    rows = json.loads(file.read_text())["rows"]
    assert [row["sampler"] for row in rows] == ["full", "plain 1", "student 1"]
    assert [row["calls"] for row in rows] == [2 * 2 * 3, 2 * 3, 2]  # outputs, steps, branches
    assert [row["steps"] for row in rows] == [2, 1, 1] and all(row["ms"] > 0 for row in rows)
    assert all(0 <= row[name] <= 1 for row in rows for name in ("directions", "joint", "leading", "entropy"))
    assert all(set(row["sets"]) == {"text+image"} and set(row["sets"]["text+image"]) for row in rows)
    (full, _), (plain, of_plain), (distilled, of_student) = evaluated
    assert toy.same(full, plain) and not toy.same(full, distilled)
    assert of_plain.delay == of_student.delay and of_plain.guidance != of_student.guidance
    assert "student 1, joint, below the full sampler by" in capsys.readouterr().out


def _scaled(tree):
    return {name: _scaled(x) if isinstance(x, dict) else jnp.asarray(np.asarray(x) * 1.5) for name, x in tree.items()}


def test_the_goal_is_the_difference_to_the_full_sampler():
    def row(name, steps, directions, joint):
        rates = {"directions": directions, "interval": [0.9, 1.0], "joint": joint, "leading": joint, "entropy": 0.9}
        return {"sampler": name, "steps": steps, "calls": 3, **rates}

    rows = [row("full", 10, 0.98, 0.92), row("student 4", 4, 0.97, 0.89), row("student 1", 1, 0.5, 0.1)]
    *_, directions, joint = few_steps.to_table(rows).splitlines()
    assert directions == "student 4, directions, below the full sampler by 0.01: meets ≤ 0.02 (goal ≤ 0.02)"
    assert joint == "student 4, joint, below the full sampler by 0.03: below the goal (goal ≤ 0.02)"
    assert len(few_steps.to_table(rows[:1]).splitlines()) == 2  # without students there is no goal
