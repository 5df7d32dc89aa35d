"""Are audio and video that are generated together in step? With pooled tokens alone, and with attention in time.

    codi-jax train --config=digit_world:start=package,timed=True --workdir=out/timed
    python -m benchmarks.in_step --workdir=out/timed --json=out/in_step.json --picture=out/in_step.svg

Both models generate audio and video from the same noise. The video bounces in a frame of 125 ms, the audio clicks;
`digit_world.benchmark.sync` reads both.

    A held        a real A is kept whole, the other output goes with it; its time is compared with the truth
    A a prompt    a real A prompts the other output, which is generated alone
    joint         outputs generated together, without a prompt
    shuffled      the audio of another sample: same marginals, independent
    independent   each output generated alone, from the same noise
    still         a video of its first frame: whatever reads a bounce there would read one anywhere

    same frame    the click is within half a frame of the middle of the frame of the bounce
    one frame     within one frame
    digit         the packaged judges read the same digit in both

A sample that is unread in one output is within nothing. Intervals are of 95 %. The curve is the share of samples whose
click is within a time of the bounce.
"""

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

import codi_jax
from benchmarks.conditions import real_samples
from benchmarks.results import machine, write
from codi_jax.digit_world.benchmark import sync
from codi_jax.digit_world.judges.readers import Reader, make_readers
from codi_jax.digit_world.videos import RATE
from codi_jax.metrics.agreement import agreement
from codi_jax.metrics.intervals import wilson
from codi_jax.metrics.offset import Times, shuffled
from codi_jax.packaged import DEFAULT, open_package
from codi_jax.parallel.tables import table
from codi_jax.pipeline import Pipeline
from codi_jax.report.svg import as_file, unit_curves

OUTPUTS = ("audio", "video")
LIMITS = {"same frame": 0.5 / RATE, "one frame": 1.0 / RATE}  # seconds
CONTROLS = ("shuffled", "independent", "still")
STYLE = ".timed{stroke:#0a7}.pooled{stroke:#36c}.control{stroke:#999}"


def generate(pipe: Pipeline, outputs: Sequence[str], n: int, seed: int) -> dict[str, np.ndarray]:
    """Raw values of n samples, each of its own seed."""
    made = pipe(None, outputs, n=n, seed=list(range(seed, seed + n)), batch_size=64)
    return {name: np.stack([pipe.codi[name].raw_from_user(x) for x in made[name]]) for name in outputs}


def times_of(values: Mapping[str, np.ndarray]) -> Times:
    """Seconds of the click and of the bounce, NaN where unread."""
    audio, video = (sync.READERS[name](values[name]) for name in OUTPUTS)
    return audio, video


def distances(times: Times) -> np.ndarray:
    """Seconds between the two, infinite where one is unread."""
    return np.nan_to_num(np.abs(times[0] - times[1]), nan=np.inf)


def row(times: Times) -> dict[str, Any]:
    """The shares within `LIMITS` with intervals, and what is unread."""
    apart, n = distances(times), len(times[0])
    shares = {name: float((apart <= limit + 1e-6).mean()) for name, limit in LIMITS.items()}
    return {
        "n": n,
        **shares,
        "intervals": {name: list(wilson(share, n)) for name, share in shares.items()},
        "unread": float(np.isinf(apart).mean()),
        "within": [[t / 1000, float((apart <= t / 1000 + 1e-6).mean())] for t in range(0, 1001, 25)],
    }


def with_real(pipe: Pipeline, source: str, real: Mapping[str, Any], seed: int) -> dict[str, Any]:
    """The rows of the output that goes with real values of the other one: kept whole, and as a prompt."""
    (output,) = (name for name in OUTPUTS if name != source)
    given = [pipe.codi[source].user_from_raw(value) for value in real["values"][source]]
    truth = sync.event_times(real["factors"]["event"])
    rows = {}
    ways: dict[str, dict[str, Any]] = {"held": {"hold": {source: given}}, "a prompt": {"prompts": {source: given}}}
    for how, arguments in ways.items():
        made = pipe(to=output, **arguments, seed=list(range(seed, seed + len(given))), batch_size=64)
        values = np.stack([pipe.codi[output].raw_from_user(x) for x in made[output]])
        rows[f"{source} {how}"] = row((sync.READERS[output](values), truth))
    return rows


def measure(pipe: Pipeline, readers: Mapping[str, Reader], n: int, seed: int) -> dict[str, Any]:
    """The rows of a model."""
    joint = generate(pipe, OUTPUTS, n, seed)
    times = times_of(joint)
    alone = {name: generate(pipe, (name,), n, seed)[name] for name in OUTPUTS}
    still = {**joint, "video": np.repeat(joint["video"][:, :1], joint["video"].shape[1], axis=1)}
    digits = [readers[name](list(joint[name])).factors["digit"] for name in OUTPUTS]
    same = agreement((digits[0], digits[1]))
    real = real_samples(pipe, n)
    return {
        **with_real(pipe, "video", real, seed),
        **with_real(pipe, "audio", real, seed),
        "joint": row(times),
        "shuffled": row(shuffled(times)),
        "independent": row(times_of(alone)),
        "still": row(times_of(still)),
        "digit": same,
        "digit interval": list(wilson(same, n)),
    }


def to_text(models: Mapping[str, Any]) -> str:
    """The table."""
    lines: list[Sequence[str]] = [("model", "", *LIMITS, "unread", "digit", "n")]
    for name, of in models.items():
        for kind in (kind for kind, of_kind in of.items() if isinstance(of_kind, Mapping)):
            cells = [f"{of[kind][limit]:.3f}" for limit in LIMITS]
            if kind not in CONTROLS:
                spans = [of[kind]["intervals"][limit] for limit in LIMITS]
                cells = [f"{x} ({low:.2f} to {high:.2f})" for x, (low, high) in zip(cells, spans, strict=True)]
            digit = f"{of['digit']:.3f}" if kind == "joint" else ""
            lines.append((name, kind, *cells, f"{of[kind]['unread']:.3f}", digit, str(of[kind]["n"])))
    return table(lines, right=range(2, 7))


def picture(models: Mapping[str, Any]) -> str:
    """The curves, as a file of SVG; the horizontal axis is in seconds."""
    series = [(name, of["joint"]["within"], name) for name, of in models.items()]
    series.append(("shuffled", list(models.values())[-1]["shuffled"]["within"], "control"))
    title = "share of samples whose click is within so many seconds of the bounce"
    return as_file(unit_curves(series, title, 420, 240), STYLE)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workdir", type=Path, required=True, help="of a run with timed=True")
    parser.add_argument("--n", type=int, default=256, help="samples (256)")
    parser.add_argument("--seed", type=int, default=100, help="of the first sample (100)")
    parser.add_argument("--json", type=Path, help="write the results to this file")
    parser.add_argument("--picture", type=Path, help="write the curves to this .svg")
    args = parser.parse_args(arguments)
    start, package = machine(), open_package(DEFAULT)
    readers = make_readers(package.codi, package, args.n)
    models = {}
    for name, source in (("pooled", DEFAULT), ("timed", str(args.workdir))):
        models[name] = measure(codi_jax.load(source), readers, args.n, args.seed)
    write(args.json, start, [models], n=args.n, seed=args.seed)
    if args.picture is not None:
        args.picture.write_text(picture(models), encoding="utf-8")
    print(to_text(models))


if __name__ == "__main__":
    main()
