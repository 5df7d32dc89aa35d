"""A newcomer's folder: files with captions the packaged model was not trained on, before and after fine-tuning on them.

    python -m benchmarks.finetune --json=out/finetune.json

Writes a folder of images, audio and video of digit_world's train split whose captions are bare labels ("seven red left
low early"), and trains on it with `codi-jax train --config=finetune`. Both models then generate from labels of the test
split's factors, and from captions in words they were trained on, with the same noise.

    accuracy   fraction of samples of which the packaged judge reads the label, mean over the factors of a modality;
               with a Wilson interval of 95 % for the leading factor, the digit

Takes some ten minutes of two cores.
"""

import argparse
import csv
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

import codi_jax
from benchmarks.results import machine, number, write
from codi_jax.digit_world import CARRIES, FACTORS, LEADING, DigitWorld, WorldConfig
from codi_jax.digit_world.judges.readers import make_readers
from codi_jax.media import files
from codi_jax.metrics.agreement import agreement
from codi_jax.metrics.intervals import wilson
from codi_jax.packaged import DEFAULT, open_package
from codi_jax.parallel.tables import table
from codi_jax.pipeline import Pipeline

MEDIA = ("image", "audio", "video")
COMMAND = ("-m", "codi_jax.cli", "train")


def labels(factors: Mapping[str, np.ndarray]) -> list[str]:
    """A caption of bare labels for each sample."""
    named = [[names[value] for value in factors[factor]] for factor, names in FACTORS.items()]
    return [" ".join(words) for words in zip(*named, strict=True)]


def make(folder: Path, n: int, formats: Mapping[str, Mapping[str, Any]]) -> Path:
    """Writes n samples of the train split as files, and their table, whose path it returns."""
    world = DigitWorld(WorldConfig(size=n, modalities=tuple(CARRIES), merged=True))
    path = folder / "mine.csv"
    with path.open("w", newline="") as out:
        rows = csv.writer(out)
        rows.writerow(["text", *MEDIA])
        for i in range(n):
            sample = world.read([i])
            names = [f"{i:04d}.{suffix}" for suffix in ("png", "wav", "mp4")]
            Image.fromarray(_pixels(sample["image"][0])).save(folder / names[0])
            files.write_wav(folder / names[1], files.to_int16(sample["audio"][0]), int(formats["audio"]["rate"]))
            files.write_video(folder / names[2], _pixels(sample["video"][0]), formats["video"]["rate"])
            rows.writerow([*labels(sample["factors"]), *names])
    return path


def _pixels(values: np.ndarray) -> np.ndarray:
    return np.round((values + 1) * 127.5).astype(np.uint8)


def measure(pipe: Pipeline, n: int) -> dict[str, dict[str, Any]]:
    """Accuracy of each modality, generated from each kind of caption."""
    package = open_package(DEFAULT)
    readers = make_readers(package.codi, package, n)
    world = DigitWorld(WorldConfig(split="test", size=n, modalities=("text",), truncate=0.0, wordings="trained"))
    rows = world.read(range(n))
    out: dict[str, dict[str, Any]] = {}
    for kind, prompts in (("labels", labels(rows["factors"])), ("words", rows["text"]["caption"].tolist())):
        for name in MEDIA:
            made = pipe({"text": prompts}, name, seed=list(range(n)))
            values = [pipe.codi[name].raw_from_user(value) for value in made[name]]
            read = readers[name](values).factors
            accuracy = {factor: agreement((rows["factors"][factor], read[factor])) for factor in CARRIES[name]}
            mean = float(np.mean(list(accuracy.values())))
            out[f"{kind} {name}"] = {"mean": mean, "interval": list(wilson(accuracy[LEADING], n)), **accuracy}
    return out


def to_table(before: Mapping[str, Any], after: Mapping[str, Any]) -> str:
    """A line for each kind of caption and modality."""
    lines = [("captions", "output", "before", "after", "digit before", "digit after")]
    for key, row in before.items():
        then = after[key]
        digit, later = (f"{r[LEADING]:.3f} ({r['interval'][0]:.2f} to {r['interval'][1]:.2f})" for r in (row, then))
        kind, output = key.split()
        lines.append((kind, output, number(row["mean"], "{:.3f}"), number(then["mean"], "{:.3f}"), digit, later))
    return table(lines, right=range(2, 6))


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, default=600, help="rows of the folder (600)")
    parser.add_argument("--steps", type=int, default=200, help="of each stage (200)")
    parser.add_argument("--n", type=int, default=250, help="samples measured (250)")
    parser.add_argument("--json", type=Path, help="write the results to this file")
    args = parser.parse_args(arguments)
    start = machine()
    pipe = codi_jax.load(DEFAULT)
    before = measure(pipe, args.n)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        path = make(folder, args.files, {m: pipe.codi[m].value_format for m in MEDIA})
        config = f"--config=finetune:steps={args.steps}"
        overrides = [f"--config.data.manifest={path}", f"--workdir={folder / 'run'}"]
        subprocess.run([sys.executable, *COMMAND, config, *overrides], check=True)
        after = measure(codi_jax.load(str(folder / "run")), args.n)
    write(args.json, start, [{"before": before, "after": after}], files=args.files, steps=args.steps, n=args.n)
    print(f"\n{to_table(before, after)}\n\nn = {args.n}, {args.files} files, {args.steps} steps a stage")


if __name__ == "__main__":
    main()
