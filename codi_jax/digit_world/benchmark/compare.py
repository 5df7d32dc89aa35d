"""`codi-jax compare`: the metrics of several runs in one table.

For every direction: the accuracy of the output, with ★ where a run never trained on this pair of modalities. For every
set of outputs generated jointly from the null prompt: their agreement (joint), the agreement expected by chance from
the generated marginals, and their entropy relative to uniform. A collapsed model agrees with itself, so agreement alone
does not rank runs.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from codi_jax import digit_world, storage
from codi_jax.config import ConfigError
from codi_jax.digit_world.benchmark.order import in_order
from codi_jax.digit_world.benchmark.settings import samples_of
from codi_jax.parallel.tables import table as aligned


def read(workdir: Path) -> dict[str, Any]:
    """Reads metrics.json of an evaluated run, in the order of `evaluate`.

    Raises:
      ConfigError: the file is missing or not readable.
    """
    path = storage.as_path(workdir) / "metrics.json"
    try:
        metrics = in_order(json.loads(path.read_text()))
        if missing := {"joint", "matrix", "n"} - metrics.keys():
            raise KeyError(*missing)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ConfigError(f"{path}: no metrics; run `codi-jax evaluate --workdir {workdir}` first") from error
    return metrics


def _common(runs: Mapping[str, Mapping[str, Any]], kind: str) -> list[str]:
    """The keys that `kind` has in all runs, in the order of the first run."""
    return [name for name in next(iter(runs.values()))[kind] if all(name in m[kind] for m in runs.values())]


def _directions(runs: Mapping[str, Mapping[str, Any]], factor: str) -> str:
    lines = [(f"right {factor}", *(text for name in runs for text in (name, "")))]
    for direction in _common(runs, "matrix"):
        cells = [metrics["matrix"][direction] for metrics in runs.values()]
        rates = [(f"{c['factors'][factor]['accuracy']:.3f}", "" if c["paired"] else "★") for c in cells]
        lines.append((direction, *(text for pair in rates for text in pair)))
    return aligned(lines, right=range(1, 1 + 2 * len(runs)))


def table(runs: Mapping[str, Mapping[str, Any]], factor: str = digit_world.LEADING) -> str:
    """A text table with a row for every direction and set of outputs that all of the runs {name: metrics} have."""
    sets = _common(runs, "joint")
    columns = ("joint", "chance", "entropy", "fidelity")
    lines = [("", *(text for name in runs for text in (name, "", "", "")))]
    lines.append((f"same {factor}", *(column for _ in runs for column in columns)))
    for outputs in sets:
        cells = [metrics["joint"][outputs][factor] for metrics in runs.values()]
        lines.append((outputs, *("" if cell[c] is None else f"{cell[c]:.3f}" for cell in cells for c in columns)))
    counts = ", ".join(
        f"{name} n = {metrics['n']}{'' if samples_of(metrics) == 'test' else ' (validation samples)'}"
        for name, metrics in runs.items()
    )
    joint = aligned(lines, right=range(1, 1 + 4 * len(runs)))
    return "\n".join(
        (f"Prompt to output: {counts}", _directions(runs, factor), "", "Outputs generated together, null prompt", joint)
    )
