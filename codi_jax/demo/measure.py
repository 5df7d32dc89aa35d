"""The last step of `codi-jax demo`: what was trained is measured, shown and judged, once.

workdir/measured.json    what the measurement depends on; written last, so that an interrupted one is done again
"""

import json
from pathlib import Path
from typing import Any

from codi_jax import __version__, storage
from codi_jax.evaluate.compare import read
from codi_jax.evaluate.order import in_order
from codi_jax.evaluate.run import evaluate
from codi_jax.report.page import write
from codi_jax.train.recipe import Run
from codi_jax.train.variables import variables_of

MARKER = "measured.json"


def measure(run: Run) -> tuple[dict[str, Any], Path]:
    """Metrics and the report of a run that is trained; those that are there of the same weights are kept.

    Returns:
      What `evaluate` returns, and the path of report.html.

    Raises:
      ConfigError: a stage is not finished, or the run cannot be evaluated.
    """
    report = run.workdir / "report.html"
    settings = {name: getattr(run.config, name) for name in ("generate", "evaluate", "seed")}
    mark = {"version": __version__, "fingerprint": run.fingerprint(run.order, settings)}
    try:
        known = json.loads((run.workdir / MARKER).read_text()) == mark
    except (OSError, ValueError):
        known = False
    if known and report.exists() and (run.workdir / "metrics.json").exists():
        return in_order(read(run.workdir)), report
    metrics = evaluate(run.codi, run.config, variables_of(run), run.workdir)
    write(run.workdir)
    storage.write_text(run.workdir / MARKER, json.dumps(mark) + "\n")
    return metrics, report
