"""What the packaged model makes of a part of an output: is the generated part that of the kept one?

    python -m benchmarks.conditions --n=256 --json=docs/claims/conditions.json

A part of a test sample is kept, the rest is generated without a prompt, and the packaged judges read the generated part
alone: what was kept is made black, silent, or a copy of the generated frame beside it.

    named       the fraction of samples of which a caption names the factor that is generated beside the part: how much
                of it can be known
    read        the fraction of samples whose generated part shows the factor of the sample
    beside      the same, generated together with outputs of all other modalities, that caption among them
    alone       the same by replacement alone: what is kept is no prompt of its modality
    guided      read, with reconstruction guidance of scale 10; of images and sounds
    ceiling     read of the real sample, with the same part hidden: how much the judge can see
    of ceiling  the ratio of the best of these to it
    of known    the same to named times ceiling: of what is known in .5 and seen in .6, .3 can be read (more,
                where what is known is what is seen)
    shuffled    the generated part against the factor of another sample: chance, and what a bias would give
    noise       the same with noise in place of the generated part: what the judge says without evidence
    kept        the fraction of samples whose kept part is in the result, bit by bit

Where an output is kept whole, the others go with it: by its V and by its prompt, by its V alone (no prompt), or by the
prompt alone, without an environment. Edits start from the noise of a sample, with a prompt of another colour: how many
have it, and how many still the digit.
"""

import argparse
import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

import codi_jax
from benchmarks.results import machine, write
from codi_jax import Condition
from codi_jax.digit_world import CARRIES, FACTORS, DigitWorld, WorldConfig
from codi_jax.digit_world.benchmark import sync
from codi_jax.digit_world.judges.readers import Reader, make_readers
from codi_jax.metrics.agreement import agreement
from codi_jax.metrics.intervals import wilson
from codi_jax.packaged import DEFAULT, open_package
from codi_jax.parallel.tables import table
from codi_jax.pipeline import Pipeline

Value = np.ndarray
SIDE = 32
FRAMES = 8
RECONSTRUCTION = 10.0
OTHERS = ("beside", "alone", "guided")
STRENGTHS = (0.2, 0.4, 0.6, 0.8)


@dataclasses.dataclass(frozen=True)
class Case:
    """A part of an output that is kept.

    Attributes:
      task: its name.
      output: the modality.
      keep, mask: see `Condition`.
      kept: value -> which of it is kept, bool, for the check.
      alone: value -> the value with what is kept hidden.
      factors: that the generated part shows.
    """

    task: str
    output: str
    kept: Callable[[Value], np.ndarray]
    alone: Callable[[Value], Value]
    factors: tuple[str, ...]
    keep: str | None = None
    mask: np.ndarray | None = None


def _image(task: str, generated: tuple[slice, slice]) -> Case:
    """An image of which a rectangle is generated."""
    mask = np.zeros((SIDE, SIDE), bool)
    mask[generated] = True

    def alone(value: Value) -> Value:
        return np.where(mask[..., None], value, 0).astype(np.uint8)

    return Case(task, "image", lambda value: ~mask[..., None], alone, ("digit", "colour"), mask=mask)


def _video(task: str, keep: str, frames: Sequence[int], factors: tuple[str, ...] = ("digit", "colour")) -> Case:
    """A video of which some frames are kept; hidden, each is a copy of the nearest generated one."""
    free = np.array([k for k in range(FRAMES) if k not in frames])
    nearest = [int(free[np.abs(free - k).argmin()]) for k in range(FRAMES)]

    def kept(value: Value) -> np.ndarray:
        return np.isin(np.arange(FRAMES), frames)[:, None, None, None]

    return Case(task, "video", kept, lambda value: value[nearest], factors, keep=keep)


def _audio(task: str, keep: str, spans: Sequence[tuple[float, float]], rate: int) -> Case:
    """A sound of which spans of seconds are kept; hidden, they are silent."""

    def kept(value: Value) -> np.ndarray:
        times = np.arange(len(value)) / rate
        return np.any([(a <= times) & (times < b) for a, b in spans], axis=0)

    def alone(value: Value) -> Value:
        return np.where(kept(value), 0, value).astype(np.int16)

    return Case(task, "audio", kept, alone, ("digit", "voice"), keep=keep)


def cases(rate: int) -> list[Case]:
    """All parts; `rate` is that of the audio."""
    low, left, middle = slice(16, 32), slice(0, 16), slice(8, 24)
    return [
        _image("inpaint, lower half", (low, slice(None))),
        _image("inpaint, left half", (slice(None), left)),
        _image("inpaint, centre of 16 x 16", (middle, middle)),
        _video("image to video, first frame", "0", [0]),
        _video("extend a clip, first half", "0-0.5s", range(4)),
        _video("interpolate, both ends", "0,7", [0, 7], ("digit", "colour", "motion")),
        _audio("sound for a silent part, second half", "0-0.5s", [(0, 0.5)], rate),
        _audio("sound for a silent part, middle half", "0-0.25s,0.75-2s", [(0, 0.25), (0.75, 2)], rate),
    ]


def rates(read: Mapping[str, np.ndarray], truth: Mapping[str, np.ndarray], factors: Sequence[str]) -> dict[str, float]:
    """The fraction of samples of which each factor is read as it is."""
    return {factor: agreement((truth[factor], read[factor])) for factor in factors}


def ratio(value: float, of: float) -> float:
    """value / of, NaN if that is 0."""
    return value / of if of else float("nan")


def strips(case: Case, given: Sequence[Value], made: Sequence[Value], columns: int = 8) -> np.ndarray:
    """Two rows of images, or of the frames of a video: what is kept, on grey, and below it the result."""
    masks = [np.broadcast_to(case.kept(value), value.shape) for value in given]
    rows = [[np.where(m, v, 128).astype(np.uint8) for v, m in zip(given, masks, strict=True)], made]
    lines = [np.concatenate(row).reshape(-1, SIDE, SIDE, 3)[:columns] for row in rows]
    return np.concatenate([np.concatenate(list(line), axis=1) for line in lines])


def partial(
    pipe: Pipeline,
    case: Case,
    real: Sequence[Value],
    truth: Mapping[str, np.ndarray],
    readers: Mapping[str, Reader],
    pictures: list[np.ndarray],
) -> Any:
    """The row of a part that is kept; its strips are added to `pictures`."""
    n, codi, reader = len(real), pipe.codi[case.output], readers[case.output]
    given = [codi.user_from_raw(value) for value in real]

    def generate(scale: float = 0.0, prompt: bool = True, to: Sequence[str] = ()) -> dict[str, list[Value]]:
        condition = Condition(given, keep=case.keep, mask=case.mask, reconstruction=scale)
        weights = None if prompt else {case.output: 0}
        made = pipe(to=to, hold={case.output: condition}, weights=weights, seed=list(range(n)), batch_size=64)
        # Audio: int16, which the user's float32 holds.
        return {name: [np.asarray(pipe.codi[name].raw_from_user(value)) for value in made[name]] for name in made}

    values, beside = generate()[case.output], generate(to=pipe.modalities)
    others = {"beside": beside[case.output], "alone": generate(prompt=False)[case.output]}
    if case.output != "video":
        others["guided"] = generate(RECONSTRUCTION)[case.output]
    same = [
        np.array_equal(np.where(case.kept(a), a, 0), np.where(case.kept(b), b, 0))
        for a, b in zip(values, real, strict=True)
    ]
    if case.output != "audio":
        pictures.append(strips(case, real, values))
    rng = np.random.default_rng(0)
    noise = [rng.integers(np.iinfo(v.dtype).min, np.iinfo(v.dtype).max, v.shape, v.dtype, endpoint=True) for v in real]
    read = {
        "read": reader([case.alone(value) for value in values]).factors,
        "ceiling": reader([case.alone(value) for value in real]).factors,
        "named": readers["text"]([str(caption) for caption in beside["text"]]).factors,
        "noise": reader([case.alone(value) for value in noise]).factors,
        **{how: reader([case.alone(value) for value in made]).factors for how, made in others.items()},
    }
    numbers = {name: rates(of, truth, case.factors) for name, of in read.items()}
    other = {factor: np.roll(x, 1) for factor, x in truth.items()}
    numbers["shuffled"] = rates(read["read"], other, case.factors)
    return {
        "task": case.task,
        "output": case.output,
        "n": n,
        "kept": float(np.mean(same)),
        "chance": {factor: 1 / len(FACTORS[factor]) for factor in case.factors},
        "interval": {factor: list(wilson(x, n)) for factor, x in numbers["read"].items()},
        **numbers,
    }


def whole(pipe: Pipeline, source: str, output: str, real: Mapping[str, Any], readers: Mapping[str, Reader]) -> Any:
    """The row of an output that goes with another one, which is kept whole; beside it as a prompt."""
    given = [pipe.codi[source].user_from_raw(value) for value in real["values"][source]]
    n, truth = len(given), real["factors"]
    shared = tuple(factor for factor in CARRIES[output] if factor in CARRIES[source])
    row: dict[str, Any] = {"task": f"{source} → {output}", "output": output, "n": n}
    ways: dict[str, dict[str, Any]] = {
        "held": {"hold": {source: given}},
        "held, no prompt": {"hold": {source: given}, "weights": {source: 0}},
        "prompt": {"prompts": {source: given}},
    }
    for how, arguments in ways.items():
        made = pipe(to=output, **arguments, seed=list(range(n)), batch_size=64)
        values = [pipe.codi[output].raw_from_user(value) for value in made[output]]
        read = readers[output](values).factors
        row[how] = rates(read, truth, shared)
        row[f"{how}, shuffled"] = rates(read, {f: np.roll(x, 1) for f, x in truth.items()}, shared)
        if {source, output} == {"audio", "video"}:
            times = sync.READERS[output](np.stack(values)) - sync.event_times(truth["event"])
            row[f"{how}, same frame"] = float(np.mean(np.abs(times) <= sync.TOLERANCES["same_frame"]))
    return row


def edits(pipe: Pipeline, real: Mapping[str, Any], reader: Reader) -> list[Any]:
    """The rows of edits: images, with a prompt of their digit in another colour."""
    truth, n = real["factors"], len(real["values"]["image"])
    colours, digits = FACTORS["colour"], FACTORS["digit"]
    new = (truth["colour"] + 1) % len(colours)
    prompts = [f"a {colours[c]} {digits[d]}" for c, d in zip(new, truth["digit"], strict=True)]
    given = [pipe.codi["image"].user_from_raw(value) for value in real["values"]["image"]]
    out = []
    for strength in STRENGTHS:
        made = pipe(
            {"text": prompts}, hold={"image": Condition(given, strength=strength)}, seed=list(range(n)), batch_size=64
        )
        values = [pipe.codi["image"].raw_from_user(value) for value in made["image"]]
        read = reader(values).factors
        distance = [
            np.abs(a.astype(float).mean(-1) - b.mean(-1)).mean()
            for a, b in zip(values, real["values"]["image"], strict=True)
        ]
        out.append(
            {
                "strength": strength,
                "n": n,
                "digit": agreement((truth["digit"], read["digit"])),
                "new colour": agreement((new, read["colour"])),
                "old colour": agreement((truth["colour"], read["colour"])),
                "grey levels from the original": float(np.mean(distance)),
            }
        )
    return out


def real_samples(pipe: Pipeline, n: int) -> dict[str, Any]:
    """Raw values and factors of the first n test samples."""
    world = DigitWorld(WorldConfig(split="test", size=n, truncate=0.0, modalities=("text", "image", "audio", "video")))
    batch = world.read(np.arange(n))
    values = {name: pipe.codi[name].raw_from_batch(batch) for name in pipe.modalities}
    return {"values": values, "factors": {name: np.asarray(x) for name, x in batch["factors"].items()}}


def to_text(rows: Mapping[str, Any]) -> str:
    """The three tables."""
    lines: list[Sequence[str]] = [
        ("task", "factor", "named", "read", *OTHERS, "ceiling", "of ceiling", "of known", "shuffled", "noise", "chance",
         "kept", "n")
    ]  # fmt: skip
    for row in rows["parts"]:
        for factor, value in row["read"].items():
            top = row["ceiling"][factor]
            best = max([value, *(row[how][factor] for how in OTHERS if how in row)])
            numbers = (
                top, ratio(best, top), ratio(best, top * row["named"][factor]),
                *(row[control][factor] for control in ("shuffled", "noise", "chance")), row["kept"],
            )  # fmt: skip
            others = (f"{row[how][factor]:.3f}" if how in row else "-" for how in OTHERS)
            first = f"{row['named'][factor]:.3f}", f"{value:.3f}"
            lines.append((row["task"], factor, *first, *others, *(f"{x:.3f}" for x in numbers), str(row["n"])))
    parts = [table(lines, right=range(2, len(lines[0])))]
    ways = ("held", "held, no prompt", "prompt")
    lines = [("task", "factor", *ways, "held, shuffled", "n")]
    for row in rows["whole"]:
        for factor, value in row["held"].items():
            numbers = (value, *(row[way][factor] for way in ways[1:]), row["held, shuffled"][factor])
            lines.append((row["task"], factor, *(f"{x:.3f}" for x in numbers), str(row["n"])))
        if "held, same frame" in row:
            numbers = (row[f"{way}, same frame"] for way in ways)
            lines.append((row["task"], "same frame", *(f"{x:.3f}" for x in numbers), "", str(row["n"])))
    parts.append(table(lines, right=range(2, 7)))
    names = list(rows["edits"][0])
    lines = [
        tuple(names),
        *(
            tuple(f"{row[name]:g}" if name in ("strength", "n") else f"{row[name]:.3f}" for name in names)
            for row in rows["edits"]
        ),
    ]
    parts.append(table(lines, right=range(len(names))))
    return "\n\n".join(parts)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--n", type=int, default=256, help="samples of every row (256)")
    parser.add_argument("--model", default=DEFAULT, help=f"what codi_jax.load takes ({DEFAULT})")
    parser.add_argument("--json", type=Path, help="write the results to this file")
    parser.add_argument("--picture", type=Path, help="write what is kept and what is made of it to this .png")
    args = parser.parse_args(arguments)
    start, pipe = machine(), codi_jax.load(args.model)
    package = open_package(DEFAULT)
    readers = make_readers(package.codi, package, args.n)
    real = real_samples(pipe, args.n)
    rate = pipe.codi["audio"].value_format["rate"]
    rows: dict[str, Any] = {"parts": [], "whole": []}
    pictures: list[np.ndarray] = []
    for case in cases(rate):
        output = case.output
        row = partial(pipe, case, real["values"][output], real["factors"], readers, pictures)
        rows["parts"].append(row)
        print(case.task, {name: rows["parts"][-1][name] for name in ("read", "ceiling")}, flush=True)
    for source in pipe.modalities:
        for output in pipe.modalities:
            if source != output:
                rows["whole"].append(whole(pipe, source, output, real, readers))
                print(source, output, {name: rows["whole"][-1][name] for name in ("held", "prompt")}, flush=True)
    rows["edits"] = edits(pipe, real, readers["image"])
    write(args.json, start, [rows], n=args.n, model=args.model)
    if args.picture is not None:
        gap = np.full((SIDE // 2, pictures[0].shape[1], 3), 255, np.uint8)
        sheet = np.concatenate([part for strip in pictures for part in (strip, gap)][:-1])
        Image.fromarray(sheet).resize((sheet.shape[1] * 2, sheet.shape[0] * 2), Image.Resampling.NEAREST).save(
            args.picture
        )
    print(f"\n{to_text(rows)}")


if __name__ == "__main__":
    main()
