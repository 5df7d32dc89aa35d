"""`codi-jax report` of a run that was not evaluated: workdir/report.html with its losses, samples and costs."""

from pathlib import Path

from codi_jax import storage
from codi_jax.config import ConfigError
from codi_jax.report.markup import Html, document
from codi_jax.report.media import fitted
from codi_jax.report.summary import ability, listed, opening, parameters
from codi_jax.report.training import config_section, trained_in, training
from codi_jax.report.training_samples import TITLE, training_samples
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
    costs, names = stage_costs(run.folder), list(run.codi.modalities)
    facts = (
        parameters(run.codi),
        f"{len(run.finished_stages())} of {len(run.order)} stages finished",
        trained_in(costs),
        f"seed {run.config.seed}",
    )
    lead = f"{ability(names)} It was not evaluated: this page says how it trained, not how good it is."
    header = opening(run.folder.name, listed(names).capitalize(), lead, facts)
    sections = [("samples", TITLE), ("training", "Training")]

    def page(columns: int) -> Html:
        parts = header, training_samples(run, columns), training(run, {"stages": costs}), config_section(run)
        return document(f"codi_jax: {run.folder.name}", parts, sections=sections)

    storage.write_text(run.folder / "report.html", fitted(page, COLUMNS))
    return run.folder / "report.html"
