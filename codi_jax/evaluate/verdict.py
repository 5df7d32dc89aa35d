"""The verdict on an evaluated model: at most five lines in words, and whether it meets its floors.

One line for each part of the pipeline (readers, codecs, directions, outputs together), which names the failures that
begin there. A check follows from another one, and is counted without being named, where

    a codec, a direction or a pair needs a factor that the reader cannot read off real samples of that modality
    a direction or a pair needs a factor that the codec of an output does not keep
    a pair needs the leading factor of an output that shows it for no prompt
"""

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from codi_jax.data import digit_world
from codi_jax.evaluate.floors import ENOUGH_SAMPLES, Check, FloorsConfig, checks

MAX_NAMED = 2  # failures that a line names; the others it counts


@dataclasses.dataclass(frozen=True)
class Verdict:
    """What an evaluation comes to.

    Attributes:
      passed: whether every check meets its floor.
      lines: at most five, in words.
    """

    passed: bool
    lines: tuple[str, ...]

    def __str__(self) -> str:
        return "\n".join(self.lines)


def verdict(metrics: Mapping[str, Any], floors: FloorsConfig) -> Verdict:
    """Holds metrics, as `codi-jax evaluate` writes them, to floors."""
    every = checks(metrics, floors)
    failed = [check for check in every if not check.passed]
    named = [check for check in failed if not _is_consequence(check, every)]
    n = metrics["n"]
    sample = f"n = {n}" if n >= ENOUGH_SAMPLES else f"n = {n}: upper ends of the 95 % intervals"
    if not failed:
        head = f"The model meets its floors: all of {len(every)} checks pass ({sample})."
    else:
        more = f" and {len(failed) - len(named)} more as a consequence" if len(named) < len(failed) else ""
        fail = "fails" if len(named) == 1 else "fail"
        head = f"The model is below its floors: of {len(every)} checks {len(named)} {fail}{more} ({sample})."
    lines = [head]
    for kinds, say, well in (
        (("reader",), _readers, None),
        (("codec",), _codecs, "Codecs keep what they encode"),
        (("direction",), _directions, "Outputs show what their prompts say"),
        (("joint", "entropy"), _joint, "Outputs generated together agree"),
    ):
        of_kind = [check for check in every if check.kind in kinds]
        own = [check for check in named if check.kind in kinds]
        if own:
            lines.append(_join_sentences(say(own, every)))
        elif well and of_kind and all(check.passed for check in of_kind):
            worst = min(of_kind, key=lambda check: check.value - check.bound)
            lines.append(f"{well}: {_worst(worst)}.")
    return Verdict(not failed, tuple(lines))


def _is_consequence(check: Check, every: Iterable[Check]) -> bool:
    outputs = check.modalities[-1:] if check.kind == "direction" else check.modalities
    before = {"reader": (), "codec": ("reader",)}.get(check.kind, ("reader", "codec"))
    same = [other for other in every if other.factor == check.factor]
    if any(not c.passed and c.kind in before and c.modalities[0] in outputs for c in same):
        return True
    return check.kind in ("joint", "entropy") and any(_all_fail(_into(name, same)) for name in outputs)


def _into(output: str, every: Iterable[Check]) -> list[Check]:
    return [c for c in every if c.kind == "direction" and c.modalities[1] == output]


def _out_of(prompt: str, every: Iterable[Check]) -> list[Check]:
    return [c for c in every if c.kind == "direction" and c.modalities[0] == prompt]


def _all_fail(checks: Sequence[Check]) -> bool:
    return bool(checks) and not any(check.passed for check in checks)


def _and(words: Sequence[str]) -> str:
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)


def _join_sentences(sentences: Sequence[str]) -> str:
    more = f"; and {len(sentences) - MAX_NAMED} more" if len(sentences) > MAX_NAMED else ""
    return "; ".join(sentences[:MAX_NAMED]) + more + "."


def _count(part: float, n: int) -> str:
    return f"{round(part * n)}"


def _counts(rates: Sequence[tuple[float, int]]) -> str:
    """Counts of (part, n), one number where all are alike."""
    counts = [_count(part, n) for part, n in rates]
    return counts[0] if len(set(counts)) == 1 else _and(counts)


def _verb(modality: str) -> str:
    return "name" if modality in digit_world.READERS else "show"  # words are parsed


def _by_modality(checks: Sequence[Check]) -> dict[str, list[Check]]:
    out: dict[str, list[Check]] = {}
    for check in checks:
        out.setdefault(check.modalities[0], []).append(check)
    return out


def _readers(failed: Sequence[Check], every: Sequence[Check]) -> list[str]:
    return [
        f"{name} cannot be measured: its reader reads the {_and([c.factor for c in own])} of real samples right in "
        f"{_counts([(c.value, c.n) for c in own])} of {own[0].n} (floor {own[0].floor:.2f})"
        for name, own in _by_modality(failed).items()
    ]


def _codecs(failed: Sequence[Check], every: Sequence[Check]) -> list[str]:
    return [
        f"{name} cannot {_verb(name)} the {_and([c.factor for c in own])}: its codec keeps "
        f"{_counts([(c.value, c.n) for c in own])} of {own[0].n} samples "
        f"(real ones: {_counts([(c.ceiling, c.n) for c in own])}; floor {own[0].floor:.2f} of that)"
        for name, own in _by_modality(failed).items()
    ]


def _directions(failed: Sequence[Check], every: Sequence[Check]) -> list[str]:
    """What all prompts of an output or all outputs of a prompt have in common is said once."""
    sentences, said = [], set()
    for k, subject in ((1, "{} does not follow its prompts in the {}"), (0, "prompts of {} do not tell the {}")):
        for name in dict.fromkeys(check.modalities[k] for check in failed):
            factors = {}
            for factor in dict.fromkeys(check.factor for check in failed):
                same = [check for check in every if check.factor == factor]
                group = _into(name, same) if k else _out_of(name, same)
                own = [check for check in group if check in failed and check not in said]
                if len(group) > 1 and _all_fail(group) and own:
                    factors[factor] = own
            if factors:
                said.update(check for own in factors.values() for check in own)
                best = [max(own, key=lambda check: check.fraction) for own in factors.values()]
                parts = _and([f"{check.fraction:.2f}" for check in best])
                floors = _and(list(dict.fromkeys(f"{check.floor:.2f}" for check in best)))
                what = subject.format(name, _and(list(factors)))
                sentences.append(f"{what}: at best {parts} of the ceiling (floor {floors})")
    for check in failed:
        if check not in said:
            a, b = check.modalities
            sentences.append(
                f"{a} → {b} misses the {check.factor}: right in {_count(check.value, check.n)} of {check.n} "
                f"(real ones: {_count(check.ceiling, check.n)}; floor {check.floor:.2f} of that)"
            )
    return sentences


def _joint(failed: Sequence[Check], every: Sequence[Check]) -> list[str]:
    sentences = []
    for check in failed:
        pair = _and(check.modalities)
        if check.kind == "joint":
            found = f"{_count(check.value, check.n)} of {check.n} samples (floor {check.floor:.2f})"
            sentences.append(f"{pair} generated together show the same {check.factor} in {found}")
        else:
            found = f"entropy {check.value:.2f} (floor {check.floor:.2f})"
            sentences.append(f"{pair} generated together show few different values of the {check.factor}: {found}")
    return sentences


def _worst(check: Check) -> str:
    names = (" → " if check.kind == "direction" else " and ").join(check.modalities)
    if check.kind == "entropy":
        return f"the least even are {names}, entropy of the {check.factor} {check.value:.2f} (floor {check.floor:.2f})"
    if check.kind == "joint":
        return f"the lowest are {names}, the same {check.factor} in {check.value:.2f} (floor {check.floor:.2f})"
    return f"the lowest is {names}, {check.factor} {check.fraction:.2f} of the ceiling (floor {check.floor:.2f})"
