"""HTML from Python, escaped by construction: a `str` is content and is escaped, an `Html` is markup and is not."""

from collections.abc import Iterable
from html import escape
from importlib import resources
from typing import Any


class Html(str):
    """Markup that is inserted into a page unchanged."""


def join(children: Iterable[Any]) -> Html:
    """Concatenates children: markup, strings or numbers (escaped), nested iterables, or None (omitted)."""
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
    """An element; attribute `class_` becomes `class`, `stroke_width` becomes `stroke-width`, and None is omitted."""
    written = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{escape(str(value), quote=True)}"'
        for key, value in attributes.items()
        if value is not None
    )
    return Html(f"<{name}{written}>{join(children)}</{name}>")


def figure(content: Any, caption: Any, **attributes: Any) -> Html:
    """A figure with its caption; the style sheet numbers the figures."""
    return el("figure", el("div", content, class_="scroll"), el("figcaption", caption), **attributes)


def rows(head: Iterable[Any], body: Iterable[Iterable[Any]], class_: str = "numbers") -> Html:
    """A table with a head; the first column contains the names of the rows."""

    def line(cells: Iterable[Any]) -> Html:
        first, *rest = cells
        return el("tr", el("th", first, scope="row"), [el("td", cell) for cell in rest])

    return el(
        "table",
        el("thead", el("tr", [el("th", cell, scope="col") for cell in head])),
        el("tbody", map(line, body)),
        class_=class_,
    )


def gallery(lines: Iterable[tuple[str, Iterable[Any]]]) -> Html:
    """A table of media: a line for each name, a column for each sample."""
    return el(
        "table",
        [
            el("tr", el("th", name, scope="row"), [el("td", el("div", x, class_="media")) for x in cells])
            for name, cells in lines
        ],
        class_="gallery",
    )


def number(value: float | None, places: int = 3) -> str:
    """Formats a number with `places` decimals; None becomes a dash."""
    return "–" if value is None else f"{value:.{places}f}"


def document(title: str, body: Any, *head: Any) -> Html:
    """A complete page with the style sheet inlined; `head` is added to the head element."""
    style = resources.files("codi_jax.report").joinpath("style.css").read_text(encoding="utf-8")
    parts = (
        Html('<meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">'),
        head,
        el("title", title),
        el("style", Html(style)),
    )
    return join([Html("<!doctype html>\n"), el("html", el("head", parts), el("body", body), lang="en"), "\n"])
