"""The parts of the page that change: where a request stands, previews, results."""

from codi_jax.progress import duration
from codi_jax.report.markup import Html, el, join
from codi_jax.serve.queue import Job, Standing
from codi_jax.serve.results import PlaygroundResult
from codi_jax.serve.setting import Limits, Setting, to_query

EMPTY = el("p", "What is generated appears here, and takes shape while it is computed.", class_="empty")


def standing(job: Job, where: Standing, waits: str = "In the queue") -> Html:
    """A line, and a bar if the job runs."""
    left = "" if where.seconds is None else f", about {duration(max(where.seconds, 1))} left"
    if where.place:
        ahead = where.place - 1
        before = "next" if not ahead else f"{ahead} before you"
        return line(f"{waits}: place {where.place} ({before}){left}")
    steps = f" {job.done} of {job.total}" if job.total else ""
    share = job.done / job.total if job.total else 0.0
    return join([line(f"{job.activity or 'starting'}{steps}{left}"), bar(share)])


def line(text: str, kind: str = "") -> Html:
    """A line about a request; `kind` is "error" or "note"."""
    return el("p", text, class_=f"status {kind}".strip(), role="alert" if kind == "error" else "status")


def bar(share: float) -> Html:
    """A bar of progress."""
    return el("div", el("div", style=f"width:{100 * share:.0f}%"), class_="bar")


def preview(html: Html) -> Html:
    """What outputs are becoming."""
    return el("div", html, class_="result becoming")


def result(made: PlaygroundResult) -> Html:
    """The outputs with players, and a link to all of them."""
    sections = []
    for name, items in made.shown.items():
        cards = [
            el("figure", Html(item), el("figcaption", i + 1) if len(items) > 1 else None, class_="card")
            for i, item in enumerate(items)
        ]
        sections.append(el("section", el("h3", name), el("div", cards, class_="cards")))
    link = el(
        "a",
        "Download all, with the settings",
        href=f"result/{made.token}",
        download=f"codi-jax-{made.setting.seed}.zip",
        class_="download",
    )
    notes = [line(note, "note") for note in made.notes]
    return el("div", notes, sections, el("p", link), class_="result")


def link(setting: Setting, base: str = "") -> str:
    """The permanent link to a setting, without files."""
    return f"{base}/?{to_query(setting)}"


def label(made: PlaygroundResult, number: int) -> str:
    """A result in a list: its number, what was given and made."""
    setting = made.setting
    words = [f"“{use.text[:40]}”" if use.text else name for name, use in setting.given.items()]
    return f"{number}. {' + '.join(words) or 'nothing'} → {', '.join(made.shown)} (seed {setting.seed})"


def about_limits(limits: Limits) -> str:
    """The bounds of files, in a sentence."""
    return (
        f"Files have at most {limits.megabytes:g} MB, {limits.megapixels:g} megapixels and {limits.seconds:g} seconds; "
        "they are read for your request alone and deleted afterwards."
    )


def heading(number: str, title: str, about: str) -> Html:
    """The heading of a part of the controls."""
    return el("div", el("h2", el("span", number, class_="number"), title), el("p", about), class_="heading")


def help_line(text: str) -> Html:
    """What a control does, where the control itself has no line for it."""
    return el("p", text, class_="help")
