"""The last step of `codi-jax demo`: the trained model is evaluated once, and the report is written.

workdir/measured.json    fingerprint of the evaluation's inputs; written last, so that an interrupted one is repeated
"""

import json
from pathlib import Path
from typing import Any

from codi_jax import __version__, storage
from codi_jax.digit_world.benchmark.compare import read
from codi_jax.digit_world.benchmark.order import in_order
from codi_jax.digit_world.benchmark.run import evaluate
from codi_jax.digit_world.benchmark.settings import WHOLE
from codi_jax.digit_world.report.page import write
from codi_jax.train.recipe import Run
from codi_jax.train.variables import variables_of

MARKER = "measured.json"


def measure(run: Run) -> tuple[dict[str, Any], Path]:
    """Evaluates a trained run and writes its report, unless both exist for the same weights.

    Returns:
      The metrics, as from `evaluate`, and the path of report.html.

    Raises:
      ConfigError: a stage is not finished, or the run cannot be evaluated.
    """
    report = run.folder / "report.html"
    saved = json.loads((run.folder / "config.json").read_text())
    settings = {"generate": saved["generate"], "evaluate": saved.get("evaluate", {}), "seed": saved.get("seed", 0)}
    settings["split"] = WHOLE.split
    marker = {"version": __version__, "fingerprint": run.fingerprint(run.order, settings)}
    try:
        up_to_date = json.loads((run.folder / MARKER).read_text()) == marker
    except (OSError, ValueError):
        up_to_date = False
    if up_to_date and report.exists() and (run.folder / "metrics.json").exists():
        return in_order(read(run.folder)), report
    metrics = evaluate(run.codi, run.config, variables_of(run), run.folder)
    write(run.folder)
    storage.write_text(run.folder / MARKER, json.dumps(marker) + "\n")
    return metrics, report
