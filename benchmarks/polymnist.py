"""Coherence of joint generation on polymnist, beside published numbers of the task that it follows.

    python -m benchmarks.polymnist --workdir=out/polymnist_pairs --json=out/polymnist_pairs.json

The workdir is that of `codi-jax train --config=polymnist`. Its stage `judge.views` has trained the judge, which is the
same for all runs of one side, length and machine. The columns are described in codi_jax/polymnist/benchmark.py.
Published numbers were measured on the files of PolyMNIST-Quadrant-Labels, with 64 pixels, other glyphs and other
backgrounds: they say what is usual, not what is better.
"""

import argparse
import dataclasses
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

import codi_jax
from codi_jax.config import ConfigError, from_dict
from codi_jax.data.source import make_source, read_batch
from codi_jax.digit_world.judges import Judge, JudgeConfig, component
from codi_jax.digit_world.judges.readers import JudgeReader
from codi_jax.pipeline import Pipeline
from codi_jax.polymnist import LABELS, MODALITIES, VIEWS
from codi_jax.polymnist.benchmark import CoherenceRow, Readers, RealSamples, label_reader, measure, to_table
from codi_jax.train.recipe import Run, load_run
from codi_jax.train.variables import assemble

PLUGIN = "codi_jax.polymnist"
STAGE = "judge.views"


def readers_of(run: Run, batch: int) -> Readers:
    """A reader for every modality: the judge for the views, the labels as they are.

    Raises:
      ConfigError: the stage of the judge has not finished.
    """
    if not run.finished(STAGE):
        raise ConfigError(
            f"{run.workdir}: {STAGE} has not finished; `codi-jax train --workdir={run.workdir}` trains it"
        )
    judge, name = Judge(from_dict(JudgeConfig, run.stage(STAGE).settings)), component(VIEWS[0])
    reader = JudgeReader(
        run.codi[VIEWS[0]], judge, assemble(run, (STAGE,), (name,))["params"][name], tuple(LABELS), batch
    )

    def read(values: Sequence[Any]) -> Mapping[str, np.ndarray]:
        return reader(values).factors

    return {**dict.fromkeys(VIEWS, read), **{name: label_reader(name) for name in LABELS}}


def samples_of(run: Run, split: str, n: int) -> RealSamples:
    """The first n samples of a source of the run.

    Raises:
      ConfigError: it has fewer.
    """
    source = make_source(run.config.sources[split], f"sources.{split}")
    if n > len(source):
        raise ConfigError(f"--n={n}: sources.{split} has {len(source)} samples")
    rows = read_batch(source, range(n))
    raw = {name: modality.raw_from_batch(rows) for name, modality in run.codi.modalities.items()}
    values = {name: [run.codi[name].user_from_raw(value) for value in of] for name, of in raw.items()}
    factors = {name: np.asarray(x, np.int64) for name, x in rows["factors"].items()}
    return RealSamples(values, raw, factors, {name: rows["instances"][f"{name} glyph"] for name in VIEWS})


def sheet(values: Mapping[str, Sequence[Any]]) -> Image.Image:
    """A column for each sample of all five: its views, and below them its digit, put where its quadrant is.

    Args:
      values: modality -> n values, as a pipeline gives them.
    """
    side, gap, n = 64, 4, len(values[VIEWS[0]])
    out = Image.new("RGB", (n * (side + gap) - gap, (len(VIEWS) + 1) * (side + gap) - gap), "white")
    draw = ImageDraw.Draw(out)
    for k in range(n):
        left = k * (side + gap)
        for row, name in enumerate(VIEWS):
            view = Image.fromarray(np.asarray(values[name][k], np.uint8))
            out.paste(view.resize((side, side), Image.Resampling.NEAREST), (left, row * (side + gap)))
        top, where = len(VIEWS) * (side + gap), LABELS["quadrant"].index(values["quadrant"][k])
        draw.rectangle((left, top, left + side - 1, top + side - 1), outline="black")
        centre = left + side / 4 + side / 2 * (where % 2), top + side / 4 + side / 2 * (where // 2)
        draw.text(centre, values["digit"][k], fill="black", anchor="mm", font_size=side / 2.5)
    return out


def run_benchmark(workdir: Path, n: int, split: str, seed: int, batch: int, picture: Path | None) -> list[CoherenceRow]:
    """The rows of a trained run; a picture of twelve joint samples."""
    pipe: Pipeline = codi_jax.load(str(workdir), plugins=[PLUGIN])
    run = load_run(workdir)
    if picture is not None:
        picture.parent.mkdir(parents=True, exist_ok=True)
        sheet(pipe(to=MODALITIES, n=12, seed=seed)).save(picture, optimize=True)

    def generate(prompts: Any, to: Sequence[str], count: int) -> dict[str, list[Any]]:
        out = pipe(prompts, to=to, n=count if prompts is None else 1, seed=seed, batch_size=min(batch, count))
        return {name: [pipe.codi[name].raw_from_user(value) for value in out[name]] for name in to}

    return measure(generate, readers_of(run, batch), samples_of(run, split, n))


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workdir", type=Path, required=True, help="of a trained run")
    parser.add_argument("--n", type=int, default=1000, help="samples of each row (1000)")
    parser.add_argument("--split", default="test", choices=("val", "test"), help="source of the prompts (test)")
    parser.add_argument("--seed", type=int, default=7, help="of the noise (7)")
    parser.add_argument("--batch", type=int, default=100, help="samples generated at a time (100)")
    parser.add_argument("--json", type=Path, help="where the rows are written (WORKDIR/polymnist_SPLIT.json)")
    parser.add_argument("--picture", type=Path, help="write twelve joint samples to this .png")
    args = parser.parse_args(arguments)
    rows = run_benchmark(args.workdir, args.n, args.split, args.seed, args.batch, args.picture)
    path = args.json or args.workdir / f"polymnist_{args.split}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    settings = {"workdir": str(args.workdir), "n": args.n, "split": args.split, "seed": args.seed}
    content = {**settings, "rows": [dataclasses.asdict(row) for row in rows]}
    path.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    print(to_table(rows))


if __name__ == "__main__":
    try:
        main()
    except ConfigError as error:
        sys.exit(f"benchmarks.polymnist: {error}")
