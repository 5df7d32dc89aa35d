"""A measurement: all metrics that apply, as metrics.json and as a table.

    {"format": 1, "versions": {…}, "samples": {"path", "n", "modalities"}, "real": …, "networks": {label: {…}},
     "settings": {…}, "results": [{"metric", "on", "network", "numbers", "details", "intervals", "n",
                  "n_reference", "options", "notes"}],
     "not_measured": {metric: what it needs}}

The same files, networks and settings give the same bytes. A number that is not defined, such as the spread of a single
sample, is null.
"""

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from codi_jax import __version__, storage
from codi_jax.config import ConfigError, did_you_mean, to_dict
from codi_jax.evaluation.measures import captions, distributions, pairs, synchrony
from codi_jax.evaluation.measures.base import Case, Measure, Result
from codi_jax.evaluation.networks import open_networks, parse_networks
from codi_jax.evaluation.samples import Samples, open_samples
from codi_jax.evaluation.settings import Settings
from codi_jax.evaluation.study import Study
from codi_jax.parallel import distributed
from codi_jax.progress import ProgressFn

FORMAT = 1
METRICS: dict[str, Measure] = {
    **distributions.MEASURES,
    **captions.MEASURES,
    **pairs.MEASURES,
    **synchrony.MEASURES,
}
RANDOM_NOTE = "random weights: the number compares nothing"


def measure(
    samples: str, real: str | None, networks: str, out: Path, settings: Settings, progress: ProgressFn
) -> dict[str, Any]:
    """Measures samples, and writes OUT/metrics.json. A collective: every process must call it.

    Args:
      samples: the folder or table of samples.
      real: that of real samples or references; None for none.
      networks: see `networks`; "" for none.
      out: folder for metrics.json, and features with which a stopped measurement goes on; on a local disk, which all
        processes share.
      settings: what is measured, and how.
      progress: callback.

    Returns:
      What is written.

    Raises:
      ConfigError: a folder, a file, a network or a name of a metric cannot be used, or no metric applies.
    """
    check_metrics(settings.metrics)
    given = parse_networks(networks)
    measured, reference = open_samples(samples), None if real is None else open_samples(real)
    study = Study(measured, reference, open_networks(given, settings), settings, out, progress)
    cases = find_cases(study, settings.metrics)
    for name in settings.metrics:
        if not cases[name]:
            raise ConfigError(f"--metrics: {name} needs {METRICS[name].needs}")
    if not any(cases.values()):
        raise ConfigError(f"{samples}: {', '.join(measured.modalities)}, and {_what(study)}: no metric applies to that")
    unused = [
        label for label in study.networks if not any(label in c.label.split("+") for of in cases.values() for c in of)
    ]
    if unused:
        raise ConfigError(f"--networks: {unused[0]} would measure nothing of {samples} here; leave it out")
    return measure_cases(study, cases)


def find_cases(study: Study, names: Iterable[str]) -> dict[str, list[Case]]:
    """What of a study each metric can be measured of, by the name of the metric; of all metrics if none is named."""
    return {name: list(METRICS[name].cases(study)) for name in names or METRICS}


def measure_cases(study: Study, cases: Mapping[str, Sequence[Case]]) -> dict[str, Any]:
    """Measures cases of a study, and writes its metrics.json. A collective: every process must call it.

    Args:
      study: the study.
      cases: of `find_cases`.

    Returns:
      What is written.

    Raises:
      ConfigError: a file cannot be used, or the folder of the results is remote.
    """
    if storage.is_remote(study.out):
        raise ConfigError(f"--out: {study.out}: features are read as memory maps; expected a folder on a local disk")
    rows = []
    for name, of in cases.items():
        for case in of:
            study.progress(" ".join(filter(None, (name, "+".join(case.on), case.label))))
            rows.append(_row(study, name, case, METRICS[name].measure(study, case)))
    metrics = {
        "format": FORMAT,
        "versions": {"codi_jax": __version__, **{name: version(name) for name in ("jax", "numpy", "scipy")}},
        "samples": _describe(study.samples),
        "real": None if study.real is None else _describe(study.real),
        "networks": {label: named.describe() for label, named in study.networks.items()},
        "settings": to_dict(study.settings),
        "results": rows,
        "not_measured": {name: METRICS[name].needs for name, of in cases.items() if not of},
    }
    text = json.dumps(metrics, indent=1, allow_nan=False, ensure_ascii=False) + "\n"
    distributed.run_on_primary(lambda: _write(study.out, text), f"write to {study.out}")
    return metrics


def _write(out: Path, text: str) -> None:
    out.mkdir(parents=True, exist_ok=True)
    storage.write_text(out / "metrics.json", text)


def check_metrics(names: tuple[str, ...]) -> None:
    """Checks names of metrics.

    Raises:
      ConfigError: one is unknown; the message lists the names.
    """
    for name in names:
        if name not in METRICS:
            raise ConfigError(
                f"--metrics: no metric {name!r}{did_you_mean(name, METRICS)}; there are {', '.join(METRICS)}"
            )


def _what(study: Study) -> str:
    """The other inputs in words."""
    real = "no --real" if study.real is None else f"--real with {', '.join(study.real.modalities)}"
    return f"{real}, {'networks ' + ', '.join(study.networks) if study.networks else 'no --networks'}"


def _describe(samples: Samples) -> dict[str, Any]:
    return {"path": samples.path, "n": len(samples), "modalities": list(samples.modalities)}


def _row(study: Study, name: str, case: Case, result: Result) -> dict[str, Any]:
    random = any(study.networks[label].random for label in filter(None, case.label.split("+")))
    return {
        "metric": name,
        "on": list(case.on),
        "network": case.label or None,
        "numbers": {key: _number(x) for key, x in result.numbers.items()},
        **({"details": {key: _number(x) for key, x in result.details.items()}} if result.details else {}),
        "intervals": {key: [_number(x) for x in of] for key, of in result.intervals.items()},
        "n": result.n,
        "n_reference": result.n_reference,
        **({"options": dict(result.options)} if result.options else {}),
        "notes": [*([RANDOM_NOTE] if random else []), *result.notes],
    }


def _number(x: float) -> float | None:
    """The number, as JSON has it."""
    return float(x) if math.isfinite(x) else None


def table(metrics: Mapping[str, Any]) -> str:
    """The results as a table of text."""
    header = ("metric", "of", "network", "value", "95 % interval", "n", "real")
    rows = []
    for row in metrics["results"]:
        for i, (name, value) in enumerate(row["numbers"].items()):
            interval = row["intervals"].get(name)
            rows.append(
                (
                    name if i == 0 and name == row["metric"] else f"{row['metric']}: {name}",
                    "+".join(row["on"]),
                    row["network"] or "",
                    "undefined" if value is None else f"{value:.5g}",
                    f"{interval[0]:.5g} to {interval[1]:.5g}" if interval and None not in interval else "",
                    str(row["n"]),
                    "" if row["n_reference"] is None else str(row["n_reference"]),
                )
            )
    widths = np.max([[len(cell) for cell in row] for row in (header, *rows)], axis=0)
    lines = ["  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)).rstrip() for row in (header, *rows)]
    notes: dict[str, list[str]] = {}
    for row in metrics["results"]:
        for note in row["notes"]:
            notes.setdefault(note, []).append(
                " ".join(filter(None, (row["metric"], "+".join(row["on"]), row["network"])))
            )
    lines += [f"{note} ({', '.join(of)})" for note, of in notes.items()]
    return "\n".join(lines)
