"""What the comparing benchmarks share: medians, ratios, the machine, the file of results."""

import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Iterable, Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

from benchmarks.workers import Timing

PACKAGES = ("codi_jax", "jax", "jaxlib", "flax", "numpy", "torch", "diffusers", "webdataset")


def median(timings: Iterable[Timing]) -> float:
    """The median of the wall times, in seconds."""
    return statistics.median(timing.seconds for timing in timings)


def summary(timings: list[Timing]) -> dict[str, Any]:
    """The timings of one measurement for the file of results."""
    return {
        "median_s": median(timings),
        "seconds": [timing.seconds for timing in timings],
        "core_s": statistics.median(timing.core_seconds for timing in timings),
    }


def number(value: float | None, form: str = "{:.2f}") -> str:
    """A cell of a table; a dash for None."""
    return "-" if value is None else form.format(value)


def verdict(value: float | None, *goals: float, at_most: bool = False) -> str:
    """A line about a goal: the last of `goals` (from easy to hard) that the value meets, or by how much it fails."""
    sign = "≤" if at_most else "≥"
    wanted = f"goal {sign} {', then '.join(f'{goal:g}' for goal in goals)}"
    if value is None:
        return f"not measured ({wanted})"
    met = [goal for goal in goals if (value <= goal if at_most else value >= goal)]
    return f"{value:.3g}: " + (f"meets {sign} {met[-1]:g}" if met else "below the goal") + f" ({wanted})"


def machine() -> dict[str, Any]:
    """The machine, its load and the versions of the packages."""
    versions = {}
    for name in PACKAGES:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return {
        "processor": _processor(),
        "cpus": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "system": platform.platform(),
        "python": platform.python_version(),
        "load": os.getloadavg(),
        "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "versions": versions,
    }


def warn_of_load(before: Mapping[str, Any]) -> None:
    """Prints a line if the machine was busy before the measurement."""
    if (load := before["load"][0]) > 0.5:
        print(f"warning: the load was {load:.1f} before the start; the work of others distorts wall times", flush=True)


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.partition(": ")[2] for line in lines if line.startswith("model name")), platform.processor())


def write(path: Path | None, before: Mapping[str, Any], rows: Any, **others: Any) -> None:
    """Writes rows as JSON beside the command, the machine `before` the measurement and its load after it."""
    if path is None:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    after = {"load_after": os.getloadavg()} if before else {}
    content = {"command": sys.argv, "machine": {**before, **after}, **others, "rows": rows}
    temporary = path.with_suffix(".partial")
    temporary.write_text(json.dumps(content, indent=1) + "\n")
    temporary.replace(path)  # a benchmark that is killed leaves the rows before
