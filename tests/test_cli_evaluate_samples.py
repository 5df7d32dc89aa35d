"""`codi-jax evaluate --samples`: files of the packaged world, measured by its model; refusals are one line."""

import json

import numpy as np
import pytest
from PIL import Image

from codi_jax import cli
from codi_jax.digit_world.world import DigitWorld, WorldConfig
from tests import refusals
from tests.evaluation import made

N = 12


def refused(capsys, *arguments):
    return refusals.refused(capsys, "evaluate", *arguments)


def write(folder, shift):
    """Images of the world's test split with their captions, or with those of the sample `shift` further."""
    world = DigitWorld(WorldConfig(split="test", size=N, truncate=0.0, wordings="trained")).read(np.arange(N))
    folder.mkdir()
    for i in range(N):
        pixels = np.round((world["image"][i] + 1) * 127.5).astype(np.uint8)
        Image.fromarray(pixels).save(folder / f"image_{i}.png")
        (folder / f"text_{i}.txt").write_text(str(world["text"]["caption"][(i + shift) % N]) + "\n")
    return folder


def results(out):
    return {row["metric"]: row for row in json.loads((out / "metrics.json").read_text())["results"]}


def test_right_captions_agree_with_their_images_and_the_same_command_gives_the_same_bytes(tmp_path, capsys):
    right, swapped = write(tmp_path / "right", 0), write(tmp_path / "swapped", 1)
    out, options = tmp_path / "out", ("--networks=tower=digit_world", "--batch-size=6", "--resamples=20")
    cli.main(["evaluate", f"--samples={right}", f"--real={swapped}", f"--out={out}", *options])
    said = capsys.readouterr()
    found = results(out)
    assert found.keys() == {"frechet", "bleu", "rouge", "cider", "cosine", "retrieval"}
    assert "text+image  tower" in said.out and "tower: image of" in said.err
    numbers = found["cosine"]["numbers"]
    assert numbers["cosine"] > numbers["shuffled"] + 0.2
    assert found["frechet"]["numbers"]["frechet"] == pytest.approx(0, abs=1e-6)  # the same images
    first = (out / "metrics.json").read_bytes()
    cli.main(["evaluate", f"--samples={right}", f"--real={swapped}", f"--out={out}", *options])
    said = capsys.readouterr()
    assert (out / "metrics.json").read_bytes() == first and "tower: image of" not in said.err
    cli.main(["evaluate", f"--samples={swapped}", f"--out={out}", *options, "--metrics=cosine"])
    worse = results(out)
    assert worse.keys() == {"cosine"} and worse["cosine"]["numbers"]["cosine"] < numbers["cosine"] - 0.2


def test_what_makes_no_sense_is_refused_in_one_line(tmp_path, capsys):
    folder = made.images(tmp_path / "a", 2)
    samples, out = f"--samples={folder}", f"--out={tmp_path / 'out'}"
    for option in ("--model=digit_world", f"--workdir={tmp_path}", "--n=3", "--split=val", "--parts=joint"):
        name = option.partition("=")[0]
        assert refused(capsys, samples, out, option).startswith(f"--samples and {name}: files are measured as they are")
    assert refused(capsys, samples, out, "--config.evaluate.n=1").startswith("--samples and --config.evaluate.n=1: ")
    assert refused(capsys, samples) == "--samples needs --out=DIRECTORY for metrics.json and the features"
    assert refused(capsys, "--model=digit_world", out, "--batch-size=3").startswith("--batch-size needs --samples=DIR")
    assert refused(capsys, samples, out, "--metrics=fud").startswith("--metrics: no metric 'fud' (did you mean f")
    assert refused(capsys, samples, out, "--seconds=x") == "--seconds: expected a number, got 'x'"
    assert refused(capsys, samples, out, "--batch-size=0").startswith("expected a batch size and a number of frames")
    assert refused(capsys, f"--samples={tmp_path / 'none'}", out).endswith("none: no such folder")
    assert not (tmp_path / "out").exists()
