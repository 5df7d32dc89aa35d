"""OUT/report.html of a suite, and its table of text: our numbers beside those that the paper reports."""

import itertools
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from codi_jax import storage
from codi_jax.codi import CoDi
from codi_jax.data.decoded_source import is_caption
from codi_jax.evaluation.networks import RANDOM
from codi_jax.evaluation.suite.generate import INDEPENDENT, LISTED
from codi_jax.report.markup import Html, document, el, figure, gallery, rows
from codi_jax.report.media import media

SHOWN = {"precision_recall": 2, "lag_curve": 2}  # numbers of a metric in the tables; 1 of others
COLUMNS = 4
MAX_BYTES = 8 << 20  # of all examples of a page
HEAD = ("task", "data", "metric", "network", "value", "95 % interval", "independent", "shuffled", "paper", "n")


class Line(NamedTuple):
    """A line of a table: the texts of `HEAD`."""

    task: str
    data: str
    metric: str
    network: str
    value: str
    interval: str
    independent: str
    shuffled: str
    paper: str
    n: str


def lines(task: Mapping[str, Any], networks: Mapping[str, Any]) -> Iterator[Line]:
    """The lines of a task: the main numbers of each metric, and what they are compared with.

    Args:
      task: a row of metrics.json.
      networks: label -> what is in metrics.json of it.
    """
    alone = {_key(row): row for row in task["settings"].get(INDEPENDENT, ())}
    title = _title(task)
    for row in task["settings"]["joint"]:
        other = alone.get(_key(row))
        shuffled = next((x for key, x in row["numbers"].items() if key.startswith("shuffled")), None)
        for i, (name, value) in enumerate(list(row["numbers"].items())[: SHOWN.get(row["metric"], 1)]):
            interval = row["intervals"].get(name)
            yield Line(
                title,
                task["dataset"],
                f"{name} of {'+'.join(row['on'])}" if len(row["on"]) > 1 else name,
                row["network"] or "",
                _text(value),
                f"{interval[0]:.4g} to {interval[1]:.4g}" if interval and None not in interval else "",
                "" if other is None else _text(other["numbers"][name]),
                "" if shuffled is None or i else _text(shuffled),
                "" if i else _published(task["published"].get(row["metric"]), networks.get(row["network"])),
                str(row["n"]) if row["n_reference"] is None else f"{row['n']}, {row['n_reference']} real",
            )


def _title(task: Mapping[str, Any]) -> str:
    """Such as "text, audio → text + image"."""
    return f"{', '.join(task['prompts'])} → {' + '.join(task['outputs'])}"


def _published(number: Mapping[str, Any] | None, network: Mapping[str, Any] | None) -> str:
    """The paper's number, if ours is by a network of the same kind, with trained weights."""
    kind, weights = (network["kind"], network["weights"]) if network else ("", "")
    comparable = number is not None and number["network"] == kind and not weights.startswith(RANDOM)
    return f"{number['value']:.4g}" if number is not None and comparable else ""


def _key(row: Mapping[str, Any]) -> tuple[Any, ...]:
    return row["metric"], tuple(row["on"]), row["network"]


def _text(value: float | None) -> str:
    return "undefined" if value is None else f"{value:.4g}"


def tables(metrics: Mapping[str, Any]) -> dict[str, list[Line]]:
    """The lines of each table, by its title."""
    out: dict[str, list[Line]] = {}
    for task in metrics["tasks"]:
        out.setdefault(task["table"], []).extend(lines(task, metrics["networks"]))
    return out


def text(metrics: Mapping[str, Any]) -> str:
    """All tables as text, and what is not in them."""
    parts = []
    for title, of in tables(metrics).items():
        used = [i for i in range(len(HEAD)) if any(line[i] for line in of)]
        cells = [[HEAD[i] for i in used], *([line[i] for i in used] for line in of)]
        widths = [max(len(row[i]) for row in cells) for i in range(len(used))]
        parts.append(title)
        parts += ["  ".join(x.ljust(w) for x, w in zip(row, widths, strict=True)).rstrip() for row in cells]
        parts.append("")
    return "\n".join([*parts, *notes(metrics)])


def notes(metrics: Mapping[str, Any]) -> list[str]:
    """What a reader must know of the numbers, a line each."""
    out: dict[str, list[str]] = {}
    for task in metrics["tasks"]:
        for name, results in task["settings"].items():
            where = task["name"] if name == "joint" else f"{task['name']}, {name}"
            for row in results:
                for note in row["notes"]:
                    out.setdefault(note, []).append(f"{where}: {row['metric']}")
        if task["not_measured"]:
            out.setdefault("not measured", []).append(f"{task['name']}: {', '.join(task['not_measured'])}")
    found = [f"{note} ({_few(of)})" for note, of in out.items()]
    for name, of in metrics["datasets"].items():
        lost = [f"{of['missing']} files do not exist"] if of["missing"] else []
        lost += [f"{len(of['unreadable'])} of those drawn cannot be read"] if of["unreadable"] else []
        found.append(f"{name}: {of['n']} samples{''.join(f', {x}' for x in lost)}")
    left = metrics["left_out"]
    return [*found, *([f"left out: {_few([f'{name} ({why})' for name, why in left.items()])}"] if left else [])]


def _few(names: Sequence[str], shown: int = 6) -> str:
    unique = list(dict.fromkeys(names))
    return "; ".join(unique[:shown]) + (f"; and {len(unique) - shown} more" if len(unique) > shown else "")


def write(codi: CoDi, metrics: Mapping[str, Any], out: Path) -> None:
    """Writes OUT/report.html atomically.

    Args:
      codi: the model, which shows its files.
      metrics: what is in metrics.json.
      out: the folder of the suite.
    """
    sections, left = [], MAX_BYTES
    for title, of in tables(metrics).items():
        used = [i for i in range(len(HEAD)) if any(line[i] for line in of)]
        shown = rows([HEAD[i] for i in used], ([line[i] for i in used] for line in of))
        examples = []
        for task in metrics["tasks"]:
            if task["table"] == title and (made := _examples(codi, task, out, left)):
                examples.append(made)
                left -= len(made)
        sections.append(
            el("section", el("h2", title), figure(shown, f"{title}: our numbers, and the paper's.", title), examples)
        )
    facts = f"{metrics['n']} samples of each data set at most · seed {metrics['seed']} · model {metrics['model'][:60]}"
    header = el("header", el("p", "codi_jax", class_="kicker"), el("h1", f"Suite {metrics['suite']}"), el("p", facts))
    end = el("section", el("h2", "Notes"), el("ul", [el("li", note) for note in notes(metrics)]))
    storage.write_text(out / "report.html", document(f"codi_jax: suite {metrics['suite']}", (header, sections, end)))


def _examples(codi: CoDi, task: Mapping[str, Any], out: Path, space: int) -> Html | None:
    """The first samples of a task with their prompts, without selection; None if they take more than `space` bytes."""
    folder = out / "samples" / task["name"]
    with (folder / LISTED).open(encoding="utf-8") as stream:
        listed = [json.loads(line) for line in itertools.islice(stream, COLUMNS)]

    def prompt(name: str, line: Mapping[str, Any]) -> Html:
        value = line["prompts"][name]
        if is_caption(name):
            return Html(codi[name].html(value))
        return media(codi[name], Path(value), f"prompt {name}, sample {line['key']}")

    def output(name: str, key: Any) -> Html:
        return media(codi[name], folder / name / f"{key}{codi[name].suffix}", f"generated {name}, sample {key}")

    cells = [(f"prompt: {name}", [prompt(name, line) for line in listed]) for name in task["prompts"]]
    cells += [(name, [output(name, line["key"]) for line in listed]) for name in task["outputs"]]
    title = f"{_title(task)}, {task['dataset']}. "
    made = figure(gallery(cells), [el("b", title), "The first samples, without selection."])
    return made if len(made) <= space else None
