"""The first screen of a report: what the model is, what it is best and worst at, and cases of both."""

import math
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import jax

from codi_jax.codi import CoDi
from codi_jax.report.markup import Html, el


class Finding(NamedTuple):
    """One number of an evaluation, as a sentence.

    Attributes:
      before, after: the sentence, around its number.
      value: a proportion.
      beside: what it has to be read with: interval, chance, controls.
      section: the name of the section that has it.
    """

    before: str
    value: float
    after: str
    beside: str
    section: str


def percent(value: float) -> str:
    """A proportion in percent, with one decimal: what is not 1 is not shown as 100 %."""
    shown = f"{100 * value:.1f}"
    if shown in ("100.0", "0.0") and value not in (0, 1):
        shown = f"{100 * value:.2f}"
    return f"{shown.removesuffix('.0')}\N{NO-BREAK SPACE}%"


def listed(names: Sequence[str], last: str = "and") -> str:
    """As "text, image and audio"."""
    return f" {last} ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)


def parameters(codi: CoDi) -> str:
    """The number of parameters of a model, from its config, as text."""
    leaves = (leaf for name in codi.component_names() for leaf in jax.tree.leaves(codi.shapes(name)))
    return f"{sum(math.prod(leaf.shape) for leaf in leaves):,} parameters"


def ability(names: Sequence[str]) -> str:
    """What a model of these modalities does, in one sentence."""
    if len(names) == 1:
        return f"It generates {names[0]} from {names[0]}, or from nothing."
    inputs = f"{listed(names, 'or')}{' or any mix of them' if len(names) > 2 else ' or both'}"
    return f"Given {inputs}, it generates {listed(names, 'or')}, or several at once that belong together."


def opening(name: str, title: str, lead: str, facts: Iterable[str], *content: Any) -> Html:
    """The header of a page: the name of the run, a title, a sentence, facts, and what else is on the first screen."""
    return el(
        "header",
        el("p", "codi_jax · ", name, class_="kicker"),
        el("h1", title),
        el("p", lead, class_="lead"),
        el("p", " · ".join(facts), class_="facts"),
        content,
    )


def findings(best: Sequence[Finding], worst: Sequence[Finding], note: str) -> Html:
    """Two lists of sentences, each with a link to the section that has its number."""

    def column(title: str, found: Sequence[Finding], class_: str) -> Html:
        items = [
            el(
                "li",
                el("a", of.before, el("b", percent(of.value)), of.after, href=f"#{of.section}"),
                el("span", of.beside, class_="note"),
            )
            for of in found
        ]
        return el("div", el("h2", title), el("ul", items), class_=f"found {class_}")

    columns = column("What it does best", best, "best"), column("What it does worst", worst, "worst")
    return el("div", el("div", columns, class_="findings"), el("p", note, class_="note"))
