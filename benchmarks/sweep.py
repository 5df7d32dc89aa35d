"""Which settings of sampling are best, chosen on validation samples: a recorded choice for each variant of the recipe.

    python -m benchmarks.sweep --workdir=out/claims --variant=ours --out=docs/claims/sweep.ours.json
    python -m benchmarks.sweep --model=digit_world --variant=packaged --out=docs/claims/sweep.packaged.json

One setting at a time changes around those of the config (`benchmarks.sweep_settings`). Each is evaluated as by

    codi-jax evaluate --split=val --seed=1 --n=64 --parts=joint --config.generate.…

so that no sample and no draw of the reported test is used. A scale of guidance by the prompt changes nothing without a
prompt (`diffusion.guidance`: u = c), so it is evaluated by --parts=directions, and the present settings by both, as are
adjustments of the guided prediction (--variant=adjusted). The model is loaded once, and programs are compiled once.
Results are kept in KEPT/VARIANT/SETTING, and are reused by a later call for the same weights, samples and settings.

Of every setting, averaged over the sets of outputs:

    leading     fraction of samples whose outputs agree on the leading factor
    agreement   the mean over all shared factors of the fraction whose outputs agree on it
    pairs       agreement of sets of two
    worst       the set with the lowest agreement
    entropy     of the leading factor, relative to uniform, in the output in which it is lowest
    ratio       Fréchet distance to real samples over that of the same output generated alone, also over outputs
    directions  accuracy of all factors of a prompt at once, averaged over the directions
    operations  of one sample of all outputs with a text prompt, counted on the traced program

The choice is `CRITERION`.
"""

import argparse
import dataclasses
import hashlib
import json
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.guidance import operations
from benchmarks.results import machine, number, warn_of_load
from benchmarks.sweep_settings import ADJUSTMENTS, GRIDS, Setting, settings
from codi_jax import storage
from codi_jax.config import ConfigError
from codi_jax.digit_world import FACTORS, LEADING
from codi_jax.digit_world.benchmark.run import Evaluation, write_metrics
from codi_jax.digit_world.benchmark.settings import Scope, record, with_n
from codi_jax.packaged import open_package
from codi_jax.parallel.host import keep_freed_memory
from codi_jax.parallel.tables import table
from codi_jax.progress import duration
from codi_jax.train.recipe import Run, load_run, open_run
from codi_jax.train.variables import variables_of

KEPT = "sweep.json"  # of a setting's folder: how its metrics were made, and what they cost
ENTROPY, RATIO, TIE = 0.9, 2.0, 0.005
CRITERION = (
    f"Of the settings whose entropy is at least {ENTROPY} and whose ratio is at most {RATIO:g}, the one with the "
    f"highest agreement. Settings within {TIE} of it, and in the leading factor, too, count as equal: of these the one "
    "with the fewest operations is chosen, and if several have as few, the one with the lowest ratio. The scale of "
    "guidance by the prompt has no effect without a prompt: it is chosen among the present settings and those in which "
    "it alone differs, by the accuracy of directions; of equal ones the fewest operations count, then the accuracy."
)


class Model:
    """What is evaluated.

    Attributes:
      run: the run, without a workdir for a package.
      variables: parameters and constants.
      weights: a hash of the weights.
    """

    def __init__(self, workdir: Path | None, package: str | None):
        if package is None and workdir is not None:
            self.run: Run = load_run(workdir)
            self.variables, self.weights = variables_of(self.run), self.run.fingerprint(self.run.order, "")
        elif package is not None and workdir is None:
            opened = open_package(package)
            self.run, self.variables = open_run(opened.run, None), opened.read("model")
            self.weights = hashlib.sha256((opened.directory / "config.json").read_bytes()).hexdigest()[:16]
        else:
            raise ConfigError("expected either --workdir=DIRECTORY of a run or --model=NAME")


class Sweep:
    """The settings of one variant, and their results in a folder.

    Attributes:
      settings: that are tried, the present ones first.
    """

    def __init__(self, model: Model, variant: str, kept: Path, n: int, seed: int):
        self._codi, self._kept, self._weights = model.run.codi, kept / variant, model.weights
        config = model.run.config
        config = dataclasses.replace(config, evaluate={**with_n(config.evaluate, n), "seed": seed})
        self.settings = settings(config.generate, self._codi.modalities, variant)
        self._all = Evaluation(self._codi, config, model.variables, Scope("val", ("directions", "joint")))

    def _evaluation(self, setting: Setting) -> Evaluation:
        both = setting.field == "" or setting.field in ADJUSTMENTS
        parts = ("directions", "joint") if both else ("directions",) if setting.field == "prompt" else ("joint",)
        return self._all.with_settings(setting.generate, parts)

    def _how(self, evaluation: Evaluation) -> dict[str, Any]:
        """What the numbers of a setting depend on; the commit is recorded, but a later one reuses them."""
        how = record(self._codi, evaluation.config, evaluation.settings, evaluation.scope)
        return {**{k: v for k, v in how.items() if k != "commit"}, "n": evaluation.settings.n, "weights": self._weights}

    def row(self, setting: Setting) -> tuple[dict[str, Any], bool]:
        """The numbers of a setting, see the module docstring, and whether they are kept from before."""
        evaluation, folder = self._evaluation(setting), self._kept / setting.name
        how = self._how(evaluation)
        if kept := _read(folder, how):
            return self._row(setting, *kept), True
        folder.mkdir(parents=True, exist_ok=True)
        (folder / KEPT).unlink(missing_ok=True)  # it is written last, and says how the metrics were made
        start = time.perf_counter()
        metrics, _ = evaluation.run()
        cost = {
            "seconds": round(time.perf_counter() - start, 1),
            "operations": operations(self._codi, setting.generate, setting.generate.guidance),
        }
        write_metrics(folder, metrics)
        storage.write_text(folder / KEPT, json.dumps({"how": how, "cost": cost}, indent=1) + "\n")
        return self._row(setting, metrics, cost), False

    @staticmethod
    def _row(setting: Setting, metrics: Mapping[str, Any], cost: Mapping[str, Any]) -> dict[str, Any]:
        of_metrics = {"commit": metrics["commit"], "generate": metrics["generate"]}
        return {"setting": setting.name, "field": setting.field, **summary(metrics), **cost, **of_metrics}


def _read(folder: Path, how: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]] | None:
    """The metrics and the cost of a setting that was evaluated in this way before; else None."""
    try:
        kept = json.loads((folder / KEPT).read_text())
        if kept["how"] == json.loads(json.dumps(how)):
            return json.loads((folder / "metrics.json").read_text()), kept["cost"]
    except (OSError, ValueError, KeyError, TypeError):
        pass
    return None


def _mean(values: Iterable[float]) -> float | None:
    listed = list(values)
    return round(sum(listed) / len(listed), 4) if listed else None


def summary(metrics: Mapping[str, Any]) -> dict[str, Any]:
    """The averages of the module docstring, from the contents of metrics.json; None for what was not measured."""
    sets = {name: {f: row for f, row in cell.items() if f in FACTORS} for name, cell in metrics["joint"].items()}
    agreement = {name: _mean(row["joint"] for row in rows.values()) or 0.0 for name, rows in sets.items()}
    leading = [rows[LEADING] for rows in sets.values() if LEADING in rows]
    distances = [out for rows in sets.values() for out in rows.get(LEADING, {"outputs": {}})["outputs"].values()]
    worst = min(agreement, key=agreement.__getitem__) if agreement else None
    return {
        "leading": _mean(row["joint"] for row in leading),
        "agreement": _mean(agreement.values()),
        "pairs": _mean(rate for name, rate in agreement.items() if name.count("+") == 1),
        "worst": None if worst is None else {"outputs": worst, "agreement": agreement[worst]},
        "entropy": _mean(row["entropy"] for row in leading),
        "ratio": _mean(x["fidelity"] / x["fidelity_independent"] for x in distances if x.get("fidelity_independent")),
        "directions": _mean(cell["all"]["accuracy"] for cell in metrics["matrix"].values()),
    }


def best(rows: Sequence[Mapping[str, Any]], by: str) -> Mapping[str, Any] | None:
    """The row that CRITERION chooses by `agreement` or `directions`; None if no row meets its conditions."""
    allowed = [
        row
        for row in rows
        if row[by] is not None
        and (row["entropy"] is None or row["entropy"] >= ENTROPY)
        and (row["ratio"] is None or row["ratio"] <= RATIO)
    ]
    if not allowed:
        return None
    highest = max(allowed, key=lambda row: row[by])
    of = [by, "leading"] if highest["leading"] is not None else [by]
    equal = [row for row in allowed if all(row[column] >= highest[column] - TIE - 1e-9 for column in of)]
    return min(equal, key=lambda row: (row["operations"], row["ratio"] or 0.0, -row[by]))


def choice(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """{"joint", "prompt"}: the names of the settings that CRITERION chooses; None where no setting is allowed."""
    joint = best([row for row in rows if row["field"] != "prompt"], "agreement")
    # What is generated together does not depend on the scale of the prompt, and does not exclude it either.
    apart = {"entropy": None, "ratio": None, "leading": None}
    prompts = [{**row, **apart} for row in rows if row["field"] in ("", "prompt")]
    prompt = best(prompts, "directions")
    return {"joint": joint and joint["setting"], "prompt": prompt and prompt["setting"]}


def to_table(rows: Sequence[Mapping[str, Any]]) -> str:
    """The rows as text, and the choice."""
    columns = ("leading", "agreement", "pairs", "entropy", "ratio", "directions")
    lines: list[tuple[str, ...]] = [("setting", *columns, "worst set", "", "GFLOP", "seconds")]
    for row in rows:
        worst = row["worst"] or {"outputs": "-", "agreement": None}
        numbers = (number(row[c], "{:.2f}" if c == "ratio" else "{:.3f}") for c in columns)
        of_worst = worst["outputs"], number(worst["agreement"], "{:.3f}")
        lines.append((row["setting"], *numbers, *of_worst, f"{row['operations'] / 1e9:.2f}", f"{row['seconds']:.0f}"))
    chosen = choice(rows)
    names = [f"{what}: {name or 'no setting meets the conditions'}" for what, name in chosen.items()]
    return "\n".join([table(lines, right=(*range(1, 7), 8, 9, 10)), "", f"chosen, {'; '.join(names)}", CRITERION])


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workdir", type=Path, help="directory of a trained run")
    parser.add_argument("--model", help="a packaged model, or a folder of one, instead")
    parser.add_argument("--variant", required=True, help=f"whose settings are tried: {', '.join(GRIDS)}")
    parser.add_argument("--out", type=Path, help="file of the results (docs/claims/sweep.VARIANT.json)")
    parser.add_argument("--n", type=int, default=64, help="number of samples (64)")
    parser.add_argument("--seed", type=int, default=1, help="seed of the draws (1)")
    parser.add_argument("--kept", type=Path, default=Path("out/sweep"), help="folder of finished settings (out/sweep)")
    args = parser.parse_args(arguments)
    out = args.out or Path("docs/claims") / f"sweep.{args.variant}.json"
    warn_of_load(before := machine())
    keep_freed_memory()
    sweep = Sweep(Model(args.workdir, args.model), args.variant, args.kept, args.n, args.seed)
    rows, spent = [], []
    for k, setting in enumerate(sweep.settings, 1):
        row, reused = sweep.row(setting)
        rows.append(row)
        spent += [] if reused else [row["seconds"]]
        left = (len(sweep.settings) - k) * (sum(spent) / len(spent)) if spent else 0.0
        how = "kept from before" if reused else duration(row["seconds"])
        count = f"{k}/{len(sweep.settings)}"
        print(f"sweep {args.variant}  {count}  {setting.name}  {how}, {duration(left)} left", flush=True)
    command = ["python", "-m", "benchmarks.sweep", *(sys.argv[1:] if arguments is None else arguments)]
    described = {"command": command, "variant": args.variant, "split": "val", "n": args.n, "seed": args.seed}
    described |= {"versions": before["versions"], "criterion": CRITERION, "chosen": choice(rows), "settings": rows}
    out.parent.mkdir(parents=True, exist_ok=True)
    storage.write_text(out, json.dumps(described, indent=1) + "\n")
    print(f"\n{to_table(rows)}\n\n{out}")


if __name__ == "__main__":
    try:
        main()
    except ConfigError as error:
        sys.exit(f"benchmarks.sweep: {error}")
