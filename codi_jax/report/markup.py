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


def scrolling(content: Any, label: str | None = None) -> Html:
    """A box that scrolls sideways if its content is wider than the page.

    Args:
      content: of the box.
      label: its name for screen readers, with which it takes the focus, so that keys can scroll it; for content that
        may be wider than a phone.
    """
    named = {} if label is None else {"tabindex": 0, "role": "group", "aria_label": label}
    return el("div", content, class_="scroll", **named)


def figure(content: Any, caption: Any, label: str | None = None, **attributes: Any) -> Html:
    """A figure with its caption; the style sheet numbers the figures. `label`: see `scrolling`."""
    return el("figure", scrolling(content, label), el("figcaption", caption), **attributes)


def section(name: str, title: str, *content: Any) -> Html:
    """A section of a page that links can name."""
    return el("section", el("h2", title), content, id=name)


def folded(title: Any, *content: Any) -> Html:
    """Content that a click or a key on its title shows."""
    return el("details", el("summary", title), content)


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


def document(title: str, content: Any, *head: Any, sections: Iterable[tuple[str, str]] = ()) -> Html:
    """A complete page with the style sheet inlined, which loads nothing and runs no script.

    Args:
      title: of the page.
      content: of its main element.
      head: added to the head element.
      sections: (name, title) of the sections to link above the content, which a link for keyboards skips; or none.
    """
    style = resources.files("codi_jax.report").joinpath("style.css").read_text(encoding="utf-8")
    parts = (
        Html('<meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">'),
        Html('<meta name="color-scheme" content="light dark">'),
        head,
        el("title", title),
        el("style", Html(style)),
    )
    links = [el("li", el("a", shown, href=f"#{name}")) for name, shown in sections]
    above = (
        el("a", "Skip to the content", class_="skip", href="#main"),
        el("nav", el("ul", links), aria_label="Sections"),
    )
    body = el("body", above if links else None, el("main", content, id="main", tabindex=-1))
    return join([Html("<!doctype html>\n"), el("html", el("head", parts), body, lang="en"), "\n"])
