"""The page of a run that was not evaluated; that of a trained one is in tests/configs/test_finetune.py."""

import json
from types import SimpleNamespace

import pytest

from codi_jax.config import ConfigError
from codi_jax.report import training_page
from tests import toy


class Untrained(SimpleNamespace):
    order = ("ldm.image", "ldm.text")
    codi = toy.codi()
    config = SimpleNamespace(seed=7)

    def directory(self, name):
        return self.folder / name

    def stage(self, name):
        samples = SimpleNamespace(prompt="text", n=2) if name == "ldm.text" else None
        return SimpleNamespace(samples=samples, steps=20, batch_size=4, objective="ldm")

    def finished_stages(self):
        return ("ldm.text",)


@pytest.fixture
def run(tmp_path):
    return Untrained(folder=tmp_path)


def test_a_run_of_which_nothing_has_trained_is_an_error(run):
    with pytest.raises(ConfigError, match="no stage has trained yet; run `codi-jax train` first"):
        training_page.write(run)


def test_samples_as_a_stage_trained_are_shown_and_escaped(run):
    (run.folder / "config.json").write_text("{}")
    for name in run.order:
        (run.folder / name).mkdir()
        (run.folder / name / "metrics.jsonl").write_text(json.dumps({"step": 9, "loss": 0.5}) + "\n")
        for step, word in ((10, "early"), (20, "<b>late")):
            folder = run.folder / name / "samples" / f"{step:08d}"
            folder.mkdir(parents=True)
            for i in range(2):
                (folder / f"prompt_{i}.txt").write_text(f"prompt {i}\n")
                (folder / f"text_{i}.txt").write_text(f"{word} {i}\n" if i else "\n")
    html = training_page.write(run).read_text(encoding="utf-8")
    assert "1 of 2 stages finished" in html and "seed 7" in html and "final loss 0.5" in html
    assert "After 20 steps" in html and "&lt;b&gt;late 1" in html and "(empty)" in html and "<b>late" not in html
    assert html.index("text, step 10") < html.index("early 1") < html.index("text, step 20") < html.index("late 1")
    assert html.count("prompt 1") == 1  # of the stage with samples in its config
    assert f"codi_jax · {run.folder.name}" in html and "parameters" in html and "It was not evaluated" in html
