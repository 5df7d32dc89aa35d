"""`codi-jax compare`: several runs, a few columns each.

For every direction: how often the output shows what the prompt says, ★ where a run never paired the two. For every set
of outputs under the open prompt: how often all show the same (together), what agreement the generated marginals give by
chance, and their entropy as a part of uniform. A collapsed model agrees with itself, so no run is better for its
agreement alone.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from codi_jax import storage
from codi_jax.config import ConfigError
from codi_jax.data import digit_world
from codi_jax.evaluate.order import in_order
from codi_jax.parallel.tables import table as aligned


def read(workdir: Path) -> dict[str, Any]:
    """metrics.json of an evaluated run, in the order of `evaluate`.

    Raises:
      ConfigError: there is none.
    """
    path = storage.as_path(workdir) / "metrics.json"
    try:
        metrics = in_order(json.loads(path.read_text()))
        metrics["joint"], metrics["matrix"], metrics["n"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ConfigError(f"{path}: no metrics; run `codi-jax evaluate --workdir {workdir}` first") from error
    return metrics


def _common(runs: Mapping[str, Mapping[str, Any]], kind: str) -> list[str]:
    """What every run has of a kind, in the order of the first."""
    return [name for name in next(iter(runs.values()))[kind] if all(name in m[kind] for m in runs.values())]


def _directions(runs: Mapping[str, Mapping[str, Any]], factor: str) -> str:
    lines = [(f"right {factor}", *(text for name in runs for text in (name, "")))]
    for direction in _common(runs, "matrix"):
        cells = [metrics["matrix"][direction] for metrics in runs.values()]
        rates = [(f"{c['factors'][factor]['accuracy']:.3f}", "" if c["paired"] else "★") for c in cells]
        lines.append((direction, *(text for pair in rates for text in pair)))
    return aligned(lines, right=range(1, 1 + 2 * len(runs)))


def table(runs: Mapping[str, Mapping[str, Any]], factor: str = digit_world.LEADING) -> str:
    """Lines of text: a row for every direction and every set of outputs that each of the runs {name: metrics} has."""
    sets = _common(runs, "joint")
    columns = ("joint", "chance", "entropy", "fidelity")
    lines = [("", *(text for name in runs for text in (name, "", "", "")))]
    lines.append((f"same {factor}", *(column for _ in runs for column in columns)))
    for outputs in sets:
        cells = [metrics["joint"][outputs][factor] for metrics in runs.values()]
        lines.append((outputs, *("" if cell[c] is None else f"{cell[c]:.3f}" for cell in cells for c in columns)))
    counts = ", ".join(f"{name} n = {metrics['n']}" for name, metrics in runs.items())
    together = aligned(lines, right=range(1, 1 + 4 * len(runs)))
    return "\n".join(
        (f"Prompt to output: {counts}", _directions(runs, factor), "", "Outputs together, open prompt", together)
    )
