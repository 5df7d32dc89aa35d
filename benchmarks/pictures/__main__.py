"""Draws the pictures of docs/concepts.md from activations of the packaged model on real test samples.

    python -m benchmarks.pictures --out=docs/pictures
    python -m benchmarks.pictures --out=docs/pictures --check

    noise.svg      a real image at several noise levels, and the denoiser's prediction of it
    bridging.svg   the mean cosine of prompts of two modalities, by the digits of their samples
    tokens.svg     the mean cosine of V of two modalities, of one sample and of two samples
    strength.svg   how much the prediction of an output changes where all others, without noise, show another sample
    partners.svg   the share of such a change, all at one noise level, where only one of the others does

The null prompt is used but where a prompt is named, and no guidance. --only draws some of them again. --check draws
nothing; it exits with 1 if the pictures are not of the packaged model and these settings.
"""

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path

import codi_jax
from benchmarks import made
from benchmarks.pictures import draw
from benchmarks.pictures.activations import Real
from codi_jax.packaged import DEFAULT, open_package

N = 128
PICTURES: dict[str, Callable[[Real], str]] = {
    "noise": lambda real: draw.noise(real, "image", "text"),
    "bridging": draw.bridging,
    "tokens": draw.tokens,
    "strength": draw.strength,
    "partners": draw.partners,
}


def settings(n: int = N) -> dict:
    """What the pictures depend on, beside the model."""
    return {"n": n, "seed": Real.seed, "levels": [draw.LEVELS, draw.CURVE, draw.STRIP]}


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder of the pictures")
    parser.add_argument("--n", type=int, default=N, help=f"samples ({N})")
    parser.add_argument("--only", action="append", choices=PICTURES, help="draw this one (repeatable); all by default")
    parser.add_argument("--check", action="store_true", help="only say whether they are current")
    args = parser.parse_args(arguments)
    if args.check:
        made.report(made.stale(args.out, settings(args.n)), args.out)
    real = Real.read(open_package(DEFAULT), codi_jax.load(DEFAULT), args.n)
    args.out.mkdir(parents=True, exist_ok=True)
    for name in args.only or PICTURES:
        path = args.out / f"{name}.svg"
        path.write_text(PICTURES[name](real), encoding="utf-8")
        print(path, flush=True)
    made.write(args.out, settings(args.n), args.out.glob("*.svg"))


if __name__ == "__main__":
    main()
