"""LoRA adapters of the packaged model for scikit-learn's 8×8 digits: accuracy, parameters and seconds of training.

    python -m benchmarks.lora --json=out/lora.json --picture=out/lora.png

Half of the 1,797 handwritten digits, enlarged to the size of the model's images, are written to a folder with the name
of the digit as caption, and adapters of the image denoiser are trained on them by `codi-jax train
--config=finetune:lora=4`. Before and after, images are generated from names with the same noise, and scaled down to
8×8:

    accuracy   fraction that a classifier (a support vector machine) reads as the named digit, with a Wilson interval of
               95 %; it is fitted to the other half of the digits
    distance   Fréchet distance of their 64 pixels to those of that half

The row `codec` is that half through the frozen codec, which bounds both. The picture has a line of digits that were
trained on, and the images before and after, of the names "zero" to "nine". scikit-learn comes with `codi_jax[demo]`.
"""

import argparse
import csv
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from PIL import Image

import codi_jax
from benchmarks.finetune import COMMAND
from benchmarks.results import machine, verdict, write
from codi_jax.digit_world import DIGITS
from codi_jax.interop import lora as files
from codi_jax.metrics.agreement import agreement
from codi_jax.metrics.frechet import distance, fit
from codi_jax.metrics.intervals import wilson
from codi_jax.nn import lora
from codi_jax.packaged import DEFAULT, open_package
from codi_jax.parallel.tables import table
from codi_jax.pipeline import Pipeline
from codi_jax.train.recipe import load_run
from codi_jax.train.variables import all_adapters

SIDE = 8
STAGE = "finetune.image"
MOST_PARAMETERS, MOST_SECONDS = 0.01, 180.0


class Digits(NamedTuple):
    """Handwritten digits: images uint8 [N, 8, 8], 0 to 255, and their labels [N]."""

    images: np.ndarray
    labels: np.ndarray


def halves() -> tuple[Digits, Digits]:
    """Every second digit of scikit-learn, which is trained on, and the others."""
    from sklearn.datasets import load_digits

    found: Any = load_digits()
    images = np.round(found["images"] * (255 / 16)).astype(np.uint8)
    first, second = (Digits(images[i::2], np.asarray(found["target"][i::2])) for i in range(2))
    return first, second


def enlarge(images: np.ndarray, side: int) -> np.ndarray:
    """uint8 [N, 8, 8] -> [N, side, side, 3], each pixel as a square."""
    return np.repeat(np.repeat(images, side // SIDE, axis=1), side // SIDE, axis=2)[..., None].repeat(3, axis=-1)


def reduce(images: np.ndarray) -> np.ndarray:
    """uint8 [N, S, S, 3] -> [N, 64] in 0 to 16, the means of squares: the inverse of `enlarge`."""
    n, side = images.shape[:2]
    squares = images.reshape(n, SIDE, side // SIDE, SIDE, side // SIDE, 3).astype(np.float32)
    return squares.mean((2, 4, 5)).reshape(n, -1) / (255 / 16)


def make(folder: Path, digits: Digits, side: int) -> Path:
    """Writes the digits as files and their table, whose path it returns."""
    path = folder / "digits.csv"
    with path.open("w", newline="") as out:
        rows = csv.writer(out)
        rows.writerow(["text", "image"])
        for i, (image, label) in enumerate(zip(enlarge(digits.images, side), digits.labels, strict=True)):
            Image.fromarray(image).save(folder / f"{i:04d}.png")
            rows.writerow([DIGITS[label], f"{i:04d}.png"])
    return path


def judge(real: Digits) -> Callable[[np.ndarray, np.ndarray], dict[str, Any]]:
    """A function of images uint8 [N, S, S, 3] and the digits that they should show [N] -> accuracy and distance."""
    from sklearn.svm import SVC

    make_classifier: Any = SVC
    pixels = reduce(enlarge(real.images, SIDE))
    classifier, target = make_classifier(gamma=0.001).fit(pixels, real.labels), fit(pixels)

    def measure(images: np.ndarray, labels: np.ndarray) -> dict[str, Any]:
        made = reduce(images)
        accuracy = agreement((labels, classifier.predict(made)))
        return {
            "accuracy": accuracy,
            "interval": list(wilson(accuracy, len(labels))),
            "distance": distance(fit(made), target),
        }

    return measure


def generate(pipe: Pipeline, n: int) -> tuple[np.ndarray, np.ndarray]:
    """n images, in turn of each digit, and their digits."""
    labels = np.arange(n) % len(DIGITS)
    made = pipe({"text": [DIGITS[label] for label in labels]}, "image", seed=list(range(n)), batch_size=50)
    return np.stack([np.asarray(image) for image in made.image]), labels


def through_codec(pipe: Pipeline, digits: Digits, side: int) -> np.ndarray:
    """Digits, enlarged, encoded and decoded: uint8 [N, S, S, 3]."""
    latents = pipe.encode({"image": list(enlarge(digits.images, side))}, batch_size=50)
    return np.stack([np.asarray(image) for image in pipe.decode(latents, batch_size=50).image])


def sheet(mine: Digits, before: np.ndarray, after: np.ndarray) -> Image.Image:
    """Three lines of ten digits: one of each that was trained on, before, and after; twice their size."""
    columns, side = min(len(DIGITS), len(before)), before.shape[1]
    trained = enlarge(mine.images[[int((mine.labels == digit).argmax()) for digit in range(columns)]], side)
    lines = [np.concatenate(list(images[:columns]), axis=1) for images in (trained, before, after)]
    image = Image.fromarray(np.concatenate(lines))
    return image.resize((2 * image.width, 2 * image.height), Image.Resampling.NEAREST)


def to_table(rows: Mapping[str, Mapping[str, Any]]) -> str:
    """A line for each model."""
    lines = [("images", "accuracy", "distance")]
    for name, row in rows.items():
        low, high = row["interval"]
        lines.append((name, f"{row['accuracy']:.3f} ({low:.2f} to {high:.2f})", f"{row['distance']:.1f}"))
    return table(lines, right=(1, 2))


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rank", type=int, default=4, help="of the adapters (4)")
    parser.add_argument("--steps", type=int, default=1600, help="of training (1600)")
    parser.add_argument("--n", type=int, default=500, help="images measured (500)")
    parser.add_argument("--out", type=Path, help="keep the run and the adapters' file in this folder")
    parser.add_argument("--picture", type=Path, help="write digits trained on, before and after to this .png")
    parser.add_argument("--json", type=Path, help="write the results to this file")
    args = parser.parse_args(arguments)
    start = machine()
    mine, others = halves()
    pipe, measure = codi_jax.load(DEFAULT), judge(others)
    side = int(pipe.codi["image"].value_format["size"])
    before, labels = generate(pipe, args.n)
    rows = {
        "codec": measure(through_codec(pipe, others, side), others.labels),
        "before": measure(before, labels),
    }
    with tempfile.TemporaryDirectory() as name:
        folder = args.out or Path(name)
        folder.mkdir(parents=True, exist_ok=True)
        data = make(folder, mine, side)
        config = f"--config=finetune:lora={args.rank},steps={args.steps},modalities=text+image"
        overrides = [f"--config.data.manifest={data}", f"--workdir={folder / 'run'}", f"--stage={STAGE}"]
        subprocess.run([sys.executable, *COMMAND, config, *overrides], check=True)
        run = load_run(folder / "run")
        adapters = all_adapters(run)
        files.write(run.codi, adapters, folder / files.NAME)
        after, _ = generate(codi_jax.load(DEFAULT, adapters=folder / files.NAME), args.n)
        rows["after"] = measure(after, labels)
        cost = json.loads((run.directory(STAGE) / "cost.json").read_text())
    total = sum(x.size for x in jax.tree.leaves(open_package(DEFAULT).read("model")["params"]))
    size, seconds = lora.size(adapters), cost["total"] - cost["compile"]
    found = {"parameters": size, "share": size / total, "seconds": seconds, "cost": cost}
    if args.picture is not None:
        sheet(mine, before, after).save(args.picture)
    write(args.json, start, [rows | found], rank=args.rank, steps=args.steps, n=args.n)
    print(f"\n{to_table(rows)}\n\nn = {args.n}, {len(mine.labels)} digits, rank {args.rank}, {args.steps} steps")
    print(f"trained parameters: {size:,} of {total:,}; share {verdict(size / total, MOST_PARAMETERS, at_most=True)}")
    print(f"seconds of training, compilation apart: {verdict(seconds, MOST_SECONDS, at_most=True)}")


if __name__ == "__main__":
    main()
