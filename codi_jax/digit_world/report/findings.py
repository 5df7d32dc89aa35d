"""The best and the worst numbers of an evaluation, as sentences for the first screen.

Compared are all proportions that have a chance: directions, also of held-out combinations, sets of outputs, synchrony;
by the outside judges where they read the factor. They are ordered by

    (value − chance) / (1 − chance)

which is 0 at chance and 1 if every sample is right, ties by the lower end of the interval.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from codi_jax.digit_world import LEADING
from codi_jax.digit_world.benchmark import outside
from codi_jax.digit_world.report.numbers import factor_rows, outside_factors
from codi_jax.report.summary import Finding, listed, percent

COUNT = 3
NOTE = (
    "Of all numbers that have a chance, ordered by their distance from it: 0 at chance, 1 if every sample is right. "
    "Of each factor only the first is listed. Each links to the section with the others."
)


class Candidate(NamedTuple):
    """A number that may be listed.

    Attributes:
      score: see the module.
      low: lower end of the interval, or the value if there is none.
      factor: of which one is listed.
      finding: the sentence.
    """

    score: float
    low: float
    factor: str
    finding: Finding


def _candidate(finding: Finding, chance: float, factor: str, interval: Sequence[float] | None) -> Iterator[Candidate]:
    """The number as a candidate; none if chance is always right, as where all samples have one value."""
    if chance < 1:
        low = interval[0] if interval else finding.value
        yield Candidate((finding.value - chance) / (1 - chance), low, factor, finding)


def _leading(packaged: Mapping[str, Any], other: Mapping[str, Any] | None) -> tuple[Mapping[str, Any], bool]:
    """The row to show, and whether it is of the outside judges; theirs of earlier versions have no chance."""
    return (other, True) if other is not None and "chance" in other else (packaged, False)


def _beside(interval: Sequence[float] | None, chance: float, controls: Sequence[tuple[str, float | None]]) -> str:
    bounds = f"95 % interval {percent(interval[0])} to {percent(interval[1])}" if interval else "no interval recorded"
    shown = [f"{name} {percent(value)}" for name, value in controls if value is not None]
    return "; ".join([bounds, f"chance {percent(chance)}", *shown]) + "."


def _directions(metrics: Mapping[str, Any], kind: str, section: str) -> Iterator[Candidate]:
    read, where = outside.cells(metrics, kind), ", combinations held out of training" if kind == "held_out" else ""
    for name, cell in metrics.get(kind, {}).items():
        source, output = name.split("->")
        for factor, packaged in factor_rows(cell["factors"]).items():
            row, outer = _leading(packaged, outside_factors(read, name).get(factor))
            n = read[name]["n"] if outer else cell["n"]
            judge = metrics["pretrained"]["judges"][output] if outer else "packaged"
            pair = "" if cell["paired"] else "; never trained as a pair"
            finding = Finding(
                f"{output.capitalize()} prompted by {source} shows the {factor} of the prompt in ",
                row["accuracy"],
                f" of {n} samples{where} (judge: {judge}{pair}).",
                _beside(
                    row.get("interval"),
                    row["chance"],
                    (("prompts of other samples", row.get("shuffled")), ("real samples", row["ceiling"])),
                ),
                section,
            )
            yield from _candidate(finding, row["chance"], factor, row.get("interval"))


def _sets(metrics: Mapping[str, Any]) -> Iterator[Candidate]:
    read = outside.cells(metrics, "joint")
    for name, cell in metrics.get("joint", {}).items():
        for factor, packaged in factor_rows(cell).items():
            row, outer = _leading(packaged, outside_factors(read, name).get(factor))
            n, judges = (read[name]["n"], "outside") if outer else (cell["n"], "packaged")
            untrained = "" if cell["trained"] else "; never trained as a set"
            finding = Finding(
                f"Without a prompt, {listed(name.split('+'))} generated together agree on the {factor} in ",
                row["joint"],
                f" of {n} samples (judges: {judges}{untrained}).",
                _beside(
                    row.get("interval"),
                    row["chance"],
                    (("each alone", row["independent"]), ("of different samples", row.get("shuffled"))),
                ),
                "together",
            )
            yield from _candidate(finding, row["chance"], factor, row.get("interval"))


def _sync(metrics: Mapping[str, Any]) -> Iterator[Candidate]:
    sync = metrics.get("sync", {})
    for name, cell in sync.get("sets", {}).items():
        row, chance = cell["joint"], cell["chance"]["same_frame"]
        controls = [("each alone", cell["independent"]["same_frame"]), ("real samples", sync["real"]["same_frame"])]
        finding = Finding(
            f"In {listed(name.split('+'))} generated together, the audio clicks in the frame of the bounce in ",
            row["same_frame"],
            f" of {row['n']} samples (measured without a network).",
            _beside(row.get("same_frame_interval"), chance, controls),
            "in-step",
        )
        yield from _candidate(finding, chance, "same frame", row.get("same_frame_interval"))


def candidates(metrics: Mapping[str, Any]) -> list[Candidate]:
    """All numbers that may be listed, the best first."""
    every = [
        *_directions(metrics, "matrix", "matrix"),
        *_directions(metrics, "held_out", "held-out"),
        *_sets(metrics),
        *_sync(metrics),
    ]
    return sorted(every, key=lambda of: (-of.score, -of.low, of.factor != LEADING))


def best_and_worst(metrics: Mapping[str, Any], count: int = COUNT) -> tuple[list[Finding], list[Finding]]:
    """The best and the worst numbers, the most extreme first; fewer if there are not enough, and none is in both."""
    every = candidates(metrics)
    best = _of_different_factors(every, min(count, (len(every) + 1) // 2))
    rest = [of for of in reversed(every) if of not in best]
    return [of.finding for of in best], [of.finding for of in _of_different_factors(rest, count)]


def _of_different_factors(ordered: Sequence[Candidate], count: int) -> list[Candidate]:
    first = {}
    for of in ordered:
        first.setdefault(of.factor, of)
    return list(first.values())[:count]
