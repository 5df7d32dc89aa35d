"""Runs a suite: prepares real samples, generates, measures, and writes all tables.

    {"format": 1, "suite": "paper", "model", "generate", "n", "seed", "versions", "networks",
     "datasets": {name: {"path", "n", "missing", "unreadable"}},
     "tasks": [{"name", "table", "dataset", "prompts", "outputs", "n", "settings": {"joint": results, "independent": …},
                "not_measured": {metric: what it needs}, "published": {metric: {"value", "source"}}}],
     "left_out": {task: why}}

`results` are those of `measure.measure`. OUT/suite.json says what the samples depend on; a folder with samples of
another model, or of other settings, is refused, since a suite that was stopped goes on with what it finds.
"""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from codi_jax import __version__, storage
from codi_jax.config import ConfigError, did_you_mean, to_dict
from codi_jax.evaluation.measure import find_cases, measure_cases
from codi_jax.evaluation.networks import NamedNetwork, open_networks, parse_networks
from codi_jax.evaluation.samples import Samples
from codi_jax.evaluation.settings import Settings
from codi_jax.evaluation.study import Study
from codi_jax.evaluation.suite import page, paper
from codi_jax.evaluation.suite.datasets import modalities_of, open_dataset
from codi_jax.evaluation.suite.generate import INDEPENDENT, Request, generate, requests
from codi_jax.evaluation.suite.prepare import Prepared, prepare
from codi_jax.evaluation.suite.settings import SuiteConfig
from codi_jax.evaluation.suite.tasks import Task
from codi_jax.parallel import distributed
from codi_jax.pipeline import Pipeline
from codi_jax.progress import ProgressFn

FORMAT = 1
SUITES: Mapping[str, tuple[Task, ...]] = {"paper": paper.TASKS}
JOINT = "joint"


def run_suite(
    suite: str,
    pipe: Pipeline,
    model: str,
    datasets: Mapping[str, str],
    networks: str,
    out: Path,
    config: SuiteConfig,
    settings: Settings,
    progress: ProgressFn,
) -> dict[str, Any]:
    """Runs a suite, and writes OUT/metrics.json and OUT/report.html. A collective: every process must call it.

    Args:
      suite: a name of `SUITES`.
      pipe: the model.
      model: its identity, see `loading.identity`.
      datasets: name -> path.
      networks: see `evaluation.networks`.
      out: the folder, on a local disk that all processes share.
      config: of the suite.
      settings: of the measurements; `metrics` restricts those of each task.
      progress: callback.

    Returns:
      What is in metrics.json.

    Raises:
      ConfigError: no task can be run, the folder has samples of something else, or a file cannot be used.
    """
    if storage.is_remote(out):
        raise ConfigError(f"--out: {out}: features are read as memory maps; expected a folder on a local disk")
    tasks, left_out = _tasks(find_suite(suite), pipe, datasets, config)
    opened = {name: open_dataset(name, datasets[name]) for name in dict.fromkeys(task.dataset for task in tasks)}
    found = open_networks(parse_networks(networks), settings)
    distributed.run_on_primary(lambda: _check_folder(out, suite, pipe, model, datasets, config), f"write to {out}")
    real = {}
    for name, samples in opened.items():
        wanted = {modality for task in tasks if task.dataset == name for modality in task.modalities}
        real[name] = prepare(pipe.codi, samples, sorted(wanted), config.n, config.seed, out / "real" / name, progress)
    given = {}
    for task in tasks:
        lacking = [name for name in task.prompts if name not in modalities_of(opened[task.dataset])]
        if lacking or not real[task.dataset].keys_with(task.prompts):
            left_out[task.name] = f"no {' and '.join(lacking or task.prompts)} in {task.dataset}"
        else:
            given[task] = requests(task, real[task.dataset], _needed(task, real[task.dataset]), config.seed)
    if not given:
        raise ConfigError(f"no task can be run: {'; '.join(left_out.values())}")
    rows, done, total = [], 0, sum(len(of) * _rounds(task) for task, of in given.items())
    for task, of in given.items():

        def overall(activity: str, own: int = 0, _: int = 0, /, before: int = done) -> None:
            progress(f"generate {activity}", before + own, total)

        made = _generate(pipe, task, of, out, config, overall)
        rows.append(_measured(task, made, len(of), real[task.dataset], found, out, settings, progress))
        done += len(of) * _rounds(task)
    metrics = {
        "format": FORMAT,
        "suite": suite,
        "model": model,
        "generate": to_dict(pipe.config),
        "n": config.n,
        "seed": config.seed,
        "versions": {"codi_jax": __version__, **{name: version(name) for name in ("jax", "numpy", "scipy")}},
        "networks": {label: named.describe() for label, named in found.items()},
        "settings": to_dict(settings),
        "datasets": {
            name: {
                "path": datasets[name],
                "n": len(of.files),
                "missing": of.missing,
                "unreadable": dict(of.unreadable),
            }
            for name, of in real.items()
        },
        "tasks": rows,
        "left_out": left_out,
    }
    text = json.dumps(metrics, indent=1, allow_nan=False, ensure_ascii=False) + "\n"
    distributed.run_on_primary(lambda: storage.write_text(out / "metrics.json", text), f"write to {out}")
    distributed.run_on_primary(lambda: page.write(pipe.codi, metrics, out), f"write the page in {out}")
    return metrics


def find_suite(name: str) -> tuple[Task, ...]:
    """The tasks of a suite.

    Raises:
      ConfigError: an unknown name.
    """
    if name not in SUITES:
        raise ConfigError(f"--suite: no suite {name!r}{did_you_mean(name, SUITES)}; there are {', '.join(SUITES)}")
    return SUITES[name]


def _tasks(
    every: Sequence[Task], pipe: Pipeline, datasets: Mapping[str, str], config: SuiteConfig
) -> tuple[list[Task], dict[str, str]]:
    """The tasks to run, and why others are left out.

    Raises:
      ConfigError: a task is named that cannot be run.
    """
    named = {task.name: task for task in every}
    for name in config.tasks:
        if name not in named:
            raise ConfigError(f"--tasks: no task {name!r}{did_you_mean(name, named)}; there are {', '.join(named)}")
    left_out = {}
    for task in every:
        if config.tasks and task.name not in config.tasks:
            left_out[task.name] = "not among --tasks"
        elif lacking := [name for name in task.modalities if name not in pipe.modalities]:
            left_out[task.name] = f"the model has no {' and '.join(lacking)}"
        elif task.dataset not in datasets:
            left_out[task.name] = f"--datasets has no {task.dataset}"
        if task.name in config.tasks and task.name in left_out:
            raise ConfigError(f"--tasks: {task.name}: {left_out[task.name]}")
    chosen = [task for task in every if task.name not in left_out]
    if not chosen:
        raise ConfigError(f"--datasets: no task reads {', '.join(datasets)} alone")
    return chosen, left_out


def _check_folder(
    out: Path, suite: str, pipe: Pipeline, model: str, datasets: Mapping[str, str], config: SuiteConfig
) -> None:
    """Writes suite.json, or compares it.

    Raises:
      ConfigError: the folder has samples of something else.
    """
    file = out / "suite.json"
    made = {"format": FORMAT, "suite": suite, "model": model, "generate": to_dict(pipe.config)}
    made = json.loads(json.dumps({**made, "n": config.n, "seed": config.seed, "datasets": dict(datasets)}))
    if file.exists():
        before = storage.read_json(file)
        differing = [name for name in made if name != "datasets" and before.get(name) != made[name]]
        old = before.get("datasets", {})
        differing += [f"datasets.{name}" for name, path in datasets.items() if old.get(name, path) != path]
        if differing:
            raise ConfigError(
                f"--out: {out} has samples of another {differing[0]} (suite.json); choose another folder, or delete it"
            )
        made["datasets"] = {**old, **made["datasets"]}
    out.mkdir(parents=True, exist_ok=True)
    storage.write_text(file, json.dumps(made, indent=1, ensure_ascii=False) + "\n")


def _needed(task: Task, real: Prepared) -> tuple[str, ...]:
    """The modalities that a real sample must have: prompts and, if outputs are compared with real ones, these, too."""
    return task.prompts if task.independent else tuple(m for m in task.modalities if real.keys_with([m]))


def _rounds(task: Task) -> int:
    """How often samples are computed for a task: together, and each output alone."""
    return 1 + (len(task.outputs) if task.independent else 0)


def _generate(
    pipe: Pipeline, task: Task, given: Sequence[Request], out: Path, config: SuiteConfig, progress: ProgressFn
) -> dict[str, Samples]:
    """The samples of one task by setting: of outputs generated together, and of each generated alone."""

    def overall(activity: str, own: int = 0, _: int = 0, /) -> None:
        progress(activity, len(given) + own)

    made = {JOINT: generate(pipe, task, given, out / "samples" / task.name, config.batch_size, progress)}
    if task.independent:
        folder = out / "samples" / f"{task.name}.{INDEPENDENT}"
        made[INDEPENDENT] = generate(pipe, task, given, folder, config.batch_size, overall, independent=True)
    return made


def _measured(
    task: Task,
    made: Mapping[str, Samples],
    n: int,
    real: Prepared,
    networks: Mapping[str, NamedNetwork],
    out: Path,
    settings: Settings,
    progress: ProgressFn,
) -> dict[str, Any]:
    """Measures the samples of one task, as far as these networks can; its row in metrics.json."""
    named = [name for name in task.metrics if not settings.metrics or name in settings.metrics]
    reference = None if task.independent else real.samples(_needed(task, real))
    results, not_measured = {}, {}
    for setting, samples in made.items():
        folder = out / "measured" / Path(samples.path).name
        study = Study(samples, reference, networks, settings, folder, progress, real.folder / "features")
        measured = measure_cases(study, find_cases(study, named) if named else {})
        results[setting], not_measured = measured["results"], measured["not_measured"]
    return {
        "name": task.name,
        "table": task.table,
        "dataset": task.dataset,
        "prompts": list(task.prompts),
        "outputs": list(task.outputs),
        "n": n,
        "settings": results,
        "not_measured": not_measured,
        "published": {name: dataclasses.asdict(number) for name, number in task.published.items()},
    }
