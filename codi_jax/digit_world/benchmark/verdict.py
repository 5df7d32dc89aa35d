"""The verdict on an evaluated model: whether it meets its floors, in at most five lines of text.

There is one line for each part of the pipeline (readers, codecs, directions and sets of prompts, joint outputs), which
names the failures that originate there. A failure is a consequence of another one, and is counted but not named, if

    the check of a codec, direction or pair uses a factor that the reader cannot read from real samples
    the check of a direction or pair uses a factor that the codec of an output loses
    the check of a pair uses a factor that one of its outputs shows for no prompt
"""

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from codi_jax import digit_world
from codi_jax.digit_world.benchmark.floors import ENOUGH_SAMPLES, Check, FloorsConfig, checks

MAX_NAMED = 2  # failures that a line names; it counts the others


@dataclasses.dataclass(frozen=True)
class Verdict:
    """Result of comparing metrics with floors.

    Attributes:
      passed: whether every check meets its floor.
      lines: at most five lines of text.
    """

    passed: bool
    lines: tuple[str, ...]

    def __str__(self) -> str:
        return "\n".join(self.lines)


def verdict(metrics: Mapping[str, Any], floors: FloorsConfig) -> Verdict:
    """Compares metrics, the contents of metrics.json, with floors."""
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
    for kinds, describe, success in (
        (("reader",), _readers, None),
        (("codec",), _codecs, "Codecs preserve the factors"),
        (("direction", "combinations"), _directions, "Outputs follow their prompts"),
        (("joint", "entropy"), _joint, "Outputs generated together agree"),
    ):
        of_kind = [check for check in every if check.kind in kinds]
        failures = [check for check in named if check.kind in kinds]
        if failures:
            lines.append(_join_sentences(describe(failures, every)))
        elif success and of_kind and all(check.passed for check in of_kind):
            worst = min(of_kind, key=lambda check: check.value - check.bound)
            lines.append(f"{success}: {_worst(worst)}.")
    return Verdict(not failed, tuple(lines))


def _is_consequence(check: Check, every: Iterable[Check]) -> bool:
    outputs = check.modalities[-1:] if check.kind == "direction" else check.modalities
    causes = {"reader": (), "codec": ("reader",)}.get(check.kind, ("reader", "codec"))
    same_factor = [other for other in every if other.factor == check.factor]
    if any(not c.passed and c.kind in causes and c.modalities[0] in outputs for c in same_factor):
        return True
    return check.kind in ("joint", "entropy") and any(_all_fail(_to(name, same_factor)) for name in outputs)


def _to(output: str, every: Iterable[Check]) -> list[Check]:
    return [c for c in every if c.kind == "direction" and c.modalities[1] == output]


def _from(prompt: str, every: Iterable[Check]) -> list[Check]:
    return [c for c in every if c.kind == "direction" and c.modalities[0] == prompt]


def _all_fail(checks: Sequence[Check]) -> bool:
    return bool(checks) and not any(check.passed for check in checks)


def _and(words: Sequence[str]) -> str:
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)


def _join_sentences(sentences: Sequence[str]) -> str:
    more = f"; and {len(sentences) - MAX_NAMED} more" if len(sentences) > MAX_NAMED else ""
    return "; ".join(sentences[:MAX_NAMED]) + more + "."


def _count(fraction: float, n: int) -> str:
    return f"{round(fraction * n)}"


def _counts(rates: Sequence[tuple[float, int]]) -> str:
    """Counts of (fraction, n), as one number if all are equal."""
    counts = [_count(fraction, n) for fraction, n in rates]
    return counts[0] if len(set(counts)) == 1 else _and(counts)


def _verb(modality: str) -> str:
    return "name" if modality in digit_world.READERS else "show"  # text names a factor


def _by_modality(checks: Sequence[Check]) -> dict[str, list[Check]]:
    out: dict[str, list[Check]] = {}
    for check in checks:
        out.setdefault(check.modalities[0], []).append(check)
    return out


def _readers(failed: Sequence[Check], every: Sequence[Check]) -> list[str]:
    return [
        f"{name} cannot be measured: its reader reads the {_and([c.factor for c in of_modality])} of real samples "
        f"correctly in {_counts([(c.value, c.n) for c in of_modality])} of {of_modality[0].n} "
        f"(floor {of_modality[0].floor:.2f})"
        for name, of_modality in _by_modality(failed).items()
    ]


def _codecs(failed: Sequence[Check], every: Sequence[Check]) -> list[str]:
    return [
        f"{name} cannot {_verb(name)} the {_and([c.factor for c in of_modality])}: its codec preserves "
        f"{_counts([(c.value, c.n) for c in of_modality])} of {of_modality[0].n} samples (real samples: "
        f"{_counts([(c.ceiling, c.n) for c in of_modality])}; floor {of_modality[0].floor:.2f} of that)"
        for name, of_modality in _by_modality(failed).items()
    ]


def _directions(failed: Sequence[Check], every: Sequence[Check]) -> list[str]:
    """A failure common to all prompts of an output, or to all outputs of a prompt, makes one sentence."""
    sentences, reported = [], set()
    for k, subject in ((1, "{} does not follow its prompts in the {}"), (0, "prompts of {} do not convey the {}")):
        for name in dict.fromkeys(check.modalities[k] for check in failed):
            factors = {}
            for factor in dict.fromkeys(check.factor for check in failed):
                same_factor = [check for check in every if check.factor == factor]
                group = _to(name, same_factor) if k else _from(name, same_factor)
                failures = [check for check in group if check in failed and check not in reported]
                if len(group) > 1 and _all_fail(group) and failures:
                    factors[factor] = failures
            if factors:
                reported.update(check for failures in factors.values() for check in failures)
                best = [max(failures, key=lambda check: check.fraction) for failures in factors.values()]
                fractions = _and([f"{check.fraction:.2f}" for check in best])
                floors = _and(list(dict.fromkeys(f"{check.floor:.2f}" for check in best)))
                problem = subject.format(name, _and(list(factors)))
                sentences.append(f"{problem}: at best {fractions} of the ceiling (floor {floors})")
    for check in failed:
        if check not in reported:
            a, b = check.modalities
            if check.kind == "combinations":
                mean = f"right in {check.value:.3f} on average (floor {check.floor:.2f})"
                sentences.append(f"{a} to {b}: the {check.factor} is {mean}")
                continue
            sentences.append(
                f"{a} → {b} misses the {check.factor}: correct in {_count(check.value, check.n)} of {check.n} "
                f"(real samples: {_count(check.ceiling, check.n)}; floor {check.floor:.2f} of that)"
            )
    return sentences


def _joint(failed: Sequence[Check], every: Sequence[Check]) -> list[str]:
    sentences = []
    for check in failed:
        pair = _and(check.modalities)
        if check.kind == "joint":
            value = f"{_count(check.value, check.n)} of {check.n} samples (floor {check.floor:.2f})"
            sentences.append(f"{pair} generated together show the same {check.factor} in {value}")
        else:
            value = f"entropy {check.value:.2f} (floor {check.floor:.2f})"
            sentences.append(f"{pair} generated together show few different values of the {check.factor}: {value}")
    return sentences


def _worst(check: Check) -> str:
    names = (" → " if check.kind in ("direction", "combinations") else " and ").join(check.modalities)
    if check.kind == "entropy":
        return f"the lowest are {names}, entropy of the {check.factor} {check.value:.2f} (floor {check.floor:.2f})"
    if check.kind == "combinations":
        return f"the lowest is {names}, {check.factor} {check.value:.2f} on average (floor {check.floor:.2f})"
    if check.kind == "joint":
        return f"the lowest are {names}, the same {check.factor} in {check.value:.2f} (floor {check.floor:.2f})"
    return f"the lowest is {names}, {check.factor} {check.fraction:.2f} of the ceiling (floor {check.floor:.2f})"
