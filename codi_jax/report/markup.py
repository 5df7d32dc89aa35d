"""HTML from Python, escaped by construction: a `str` is content and gets escaped, an `Html` is markup and does not."""

from collections.abc import Iterable
from html import escape
from importlib import resources
from typing import Any


class Html(str):
    """Markup that is safe to put into a page as it is."""


def join(children: Iterable[Any]) -> Html:
    """Children one after the other: markup, strings or numbers (escaped), nested iterables, or None (nothing)."""
    parts = []
    for child in children:
        if child is None:
            continue
        if isinstance(child, Html):
            parts.append(child)
        elif isinstance(child, Iterable) and not isinstance(child, str):
            parts.append(join(child))
        else:
            parts.append(escape(str(child)))
    return Html("".join(parts))


def el(name: str, *children: Any, **attributes: Any) -> Html:
    """An element; an attribute `class_` is written `class`, `stroke_width` is `stroke-width`, and None is left out."""
    written = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{escape(str(value), quote=True)}"'
        for key, value in attributes.items()
        if value is not None
    )
    return Html(f"<{name}{written}>{join(children)}</{name}>")


def figure(content: Any, caption: Any, **attributes: Any) -> Html:
    """A figure with its caption; the style sheet numbers them."""
    return el("figure", el("div", content, class_="scroll"), el("figcaption", caption), **attributes)


def rows(head: Iterable[Any], body: Iterable[Iterable[Any]], class_: str = "numbers") -> Html:
    """A table whose first column names its rows."""

    def line(cells: Iterable[Any]) -> Html:
        first, *rest = cells
        return el("tr", el("th", first, scope="row"), [el("td", cell) for cell in rest])

    return el(
        "table",
        el("thead", el("tr", [el("th", cell, scope="col") for cell in head])),
        el("tbody", map(line, body)),
        class_=class_,
    )


def number(value: float | None, places: int = 3) -> str:
    """A number to so many places; a dash for None."""
    return "–" if value is None else f"{value:.{places}f}"


def document(title: str, body: Any, *head: Any) -> Html:
    """A whole page with the style sheet inside; `head` is what else its head holds."""
    style = resources.files("codi_jax.report").joinpath("style.css").read_text(encoding="utf-8")
    parts = (
        Html('<meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">'),
        head,
        el("title", title),
        el("style", Html(style)),
    )
    return join([Html("<!doctype html>\n"), el("html", el("head", parts), el("body", body), lang="en"), "\n"])
