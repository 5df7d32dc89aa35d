"""The best and the worst single outputs of an evaluation, by the packaged judge, for the first screen.

Of each output modality, over all prompts of other modalities: the first sample of which the judge reads most factors of
the prompt right, and the first of which it reads fewest right. Each says how many others are like it.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from codi_jax.codi import CoDi
from codi_jax.digit_world import FACTORS
from codi_jax.digit_world.report.gallery import describe, is_right, shown
from codi_jax.report.markup import Html, el, scrolling

CAPTION = (
    "For each output the case of which the packaged judge reads most factors of the prompt right, and the one of which "
    "it reads fewest right, chosen from all directions. “Like it” counts the outputs with as many factors right."
)


class ExtremeCase(NamedTuple):
    """One output.

    Attributes:
      source, output: names of the modalities.
      i: number of the sample.
      right, of: how many factors of the prompt are right, of how many.
      like, outputs: number of outputs with the same `right` of the same `of`, of how many.
    """

    source: str
    output: str
    i: int
    right: int
    of: int
    like: int
    outputs: int


def extremes(names: Sequence[str], samples: Mapping[str, Any], output: str) -> tuple[ExtremeCase, ExtremeCase] | None:
    """The best and the worst case of an output; None if no direction to it was measured.

    Args:
      names: the modalities in the order of the model.
      samples: "matrix" and "real" of samples.npz.
      output: the modality.
    """
    k = names.index(output)
    sources = [a for a in (*names[k + 1 :], *names[:k]) if f"{a}->{output}" in samples["matrix"]]
    scored = []
    for source in sources:
        read, real = samples["matrix"][f"{source}->{output}"]["read"], samples["real"]["seen"]["factors"]
        right = is_right(source, real, read)
        if right:
            counts = np.sum(list(right.values()), axis=0)
            scored += [(source, i, int(count), len(right)) for i, count in enumerate(counts)]
    if not scored:
        return None

    def case(chosen: tuple[str, int, int, int]) -> ExtremeCase:
        source, i, right, of = chosen
        like = sum(other[2:] == chosen[2:] for other in scored)
        return ExtremeCase(source, output, i, right, of, like, len(scored))

    share = [right / of for *_, right, of in scored]
    best = max(range(len(scored)), key=lambda j: (share[j], scored[j][3]))
    worst = min(range(len(scored)), key=lambda j: (share[j], -scored[j][3]))
    return case(scored[best]), case(scored[worst])


def _card(codi: CoDi, samples: Mapping[str, Any], case: ExtremeCase) -> Html:
    real, generated = samples["real"]["seen"], samples["matrix"][f"{case.source}->{case.output}"]
    read = {f: generated["read"][f] for f in FACTORS if f in generated["read"]}
    right = is_right(case.source, real["factors"], read)
    asked, got = describe({f: real["factors"][f] for f in right}, case.i), describe({f: read[f] for f in right}, case.i)
    class_, mark = ("right", "✓") if case.right == case.of else ("wrong", "✗")
    prompt = shown(codi[case.source], real["values"][case.source][case.i], f"prompt {case.source}: {asked}")
    output = shown(codi[case.output], generated["values"][case.i], f"generated {case.output}, read as {got}")
    return el(
        "li",
        el("div", prompt, class_="media"),
        el("div", f"{case.source} → {case.output}", class_="arrow"),
        el("div", output, class_="media"),
        el("div", f"{mark} {got}", class_=class_),
        el("div", f"asked: {asked}", class_="note") if case.right < case.of else None,
        el("div", f"{case.right} of {case.of} right; like it {case.like:,} of {case.outputs:,}", class_="note"),
    )


def strip(codi: CoDi, names: Sequence[str], samples: Mapping[str, Any]) -> Html | None:
    """The best and the worst case of every output; None if no direction was measured."""
    if not samples.get("matrix"):
        return None
    cases = [found for name in names if (found := extremes(names, samples, name)) is not None]
    if not cases:
        return None
    lines = [
        (title, class_, [_card(codi, samples, pair[k]) for pair in cases])
        for k, (title, class_) in enumerate((("Best cases", "best"), ("Worst cases", "worst")))
    ]
    boxes = [el("div", el("h3", title), el("ul", cards), class_=f"cases {class_}") for title, class_, cards in lines]
    return el(
        "div", scrolling(el("div", boxes, class_="strip"), "Best and worst cases"), el("p", CAPTION, class_="note")
    )
