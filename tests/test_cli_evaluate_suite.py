"""`codi-jax evaluate --suite`: a run on a small COCO; refusals are one line."""

import json

from codi_jax import cli
from tests import refusals, toy
from tests.evaluation.suite import sets


def refused(capsys, *arguments):
    return refusals.refused(capsys, "evaluate", *arguments)


def test_a_run_is_measured_on_a_data_set(tmp_path, capsys):
    coco, out = sets.coco(tmp_path / "coco", 3), tmp_path / "out"
    options = (f"--workdir={toy.trained()}", f"--datasets=coco={coco}", "--n=3", f"--out={out}", "--batch-size=3")
    options = (*options, "--config.generate.steps=2", "--resamples=0")
    cli.main(["evaluate", "--suite=paper", *options])
    said = capsys.readouterr()
    found = json.loads((out / "metrics.json").read_text())
    assert [task["name"] for task in found["tasks"]] == [
        *("text_to_image.coco", "image_to_text.coco", "text_to_text+image.coco")
    ]
    assert found["generate"]["steps"] == 2 and found["left_out"]["text_to_video.msrvtt"].startswith("the model has no")
    assert "image → text  coco  bleu" in said.out and str(out / "report.html") in said.out
    assert "generate text_to_image.coco" in said.err
    assert refused(capsys, "--suite=paper", *options, "--config.generate.steps=3").startswith(
        f"--out: {out} has samples of another generate (suite.json)"
    )


def test_what_makes_no_sense_is_refused_in_one_line(tmp_path, capsys):
    out = f"--out={tmp_path / 'out'}"
    coco = "--datasets=coco=none.json"
    assert (
        refused(capsys, "--suite=papr", coco, out) == "--suite: no suite 'papr' (did you mean paper?); there are paper"
    )
    assert refused(capsys, "--suite=paper", coco).startswith("--suite needs --out=DIRECTORY")
    assert refused(capsys, "--suite=paper", out).startswith("--datasets: expected NAME=PATH of some of coco")
    assert refused(capsys, "--suite=paper", coco, out, "--samples=x") == "--suite and --samples: use only one of them"
    assert refused(capsys, "--suite=paper", coco, out, "--split=val") == "--suite and --split: use only one of them"
    assert refused(capsys, "--suite=paper", coco, out, "--n=0").startswith("n and batch size: expected at least 1")
    assert refused(capsys, "--suite=paper", coco, out).endswith("none.json: no such file or folder")
    assert refused(capsys, "--tasks=text_to_image.coco", out).startswith("--tasks needs --suite=NAME")
    assert refused(capsys, "--suite=paper", coco, out, "--metrics=fud").startswith("--metrics: no metric 'fud'")
    assert not (tmp_path / "out").exists()
