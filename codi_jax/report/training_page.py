"""`codi-jax report` of a run that was not evaluated: workdir/report.html with its losses, samples and costs.

Samples are those that the stages generated while they trained (`train.sampling`), the last ones of each.
"""

from pathlib import Path
from typing import Any

from codi_jax import storage
from codi_jax.config import ConfigError
from codi_jax.report import training
from codi_jax.report.markup import Html, document, el, figure, gallery
from codi_jax.report.media import media
from codi_jax.train.ledger import stage_costs
from codi_jax.train.recipe import Run

COLUMNS = 8


def write(run: Run) -> Path:
    """Writes workdir/report.html atomically and returns its path.

    Raises:
      ConfigError: no stage of the run has trained.
    """
    if not any((run.directory(name) / "metrics.jsonl").exists() for name in run.order):
        raise ConfigError(f"{run.folder}: no stage has trained yet; run `codi-jax train` first")
    costs = stage_costs(run.folder)
    facts = (
        f"{len(run.finished_stages())} of {len(run.order)} stages finished",
        training.trained_in(costs),
        f"seed {run.config.seed}",
    )
    body = el(
        "main",
        el("header", el("p", "codi_jax", class_="kicker"), el("h1", run.folder.name), el("p", " · ".join(facts))),
        _section("Samples", _samples(run)),
        _section(
            "Loss",
            training.curves(
                run,
                "Loss of every stage over its steps: logged values (thin) and their running mean (thick). The axis is "
                "logarithmic if the loss spans more than a factor of ten.",
            ),
        ),
        _section("Time", training.costs(run, {"stages": costs}, "Seconds by stage and activity.")),
        el(
            "section",
            el("details", el("summary", "The resolved config"), el("pre", (run.folder / "config.json").read_text())),
            class_="end",
        ),
    )
    storage.write_text(run.folder / "report.html", document(f"codi_jax: {run.folder.name}", body))
    return run.folder / "report.html"


def _section(title: str, *content: Any) -> Html:
    return el("section", el("h2", title), content)


def _samples(run: Run) -> Html | list[Html]:
    figures = []
    for name in run.order:
        folders = sorted((run.directory(name) / "samples").glob("[0-9]*"))
        config = run.stage(name).samples
        if not folders or config is None:
            continue
        lines = []
        for row in ("prompt", *(name for name in run.codi.modalities)):
            modality = run.codi[config.prompt if row == "prompt" else row]
            paths = [folders[-1] / f"{row}_{i}{modality.suffix}" for i in range(min(config.n, COLUMNS))]
            if cells := [media(modality, path) for path in paths if path.exists()]:
                lines.append((row, cells))
        caption = el("b", f"{name}. "), f"After {int(folders[-1].name)} steps, without selection."
        figures.append(figure(gallery(lines), caption))
    return figures or el("p", "No stage has generated samples: its field samples is not set.")
