"""`codi-jax report`: workdir/report.html, a self-contained page (no script, no font, no link).

It displays the files that `train` and `evaluate` wrote to the workdir and computes no metrics. A modality renders its
values (`Modality.html`), so that a new modality needs no change here.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np

from codi_jax import storage
from codi_jax.config import ConfigError
from codi_jax.digit_world import FACTORS
from codi_jax.digit_world.benchmark import outside
from codi_jax.digit_world.benchmark.combinations import summary as combinations_summary
from codi_jax.digit_world.benchmark.order import in_order
from codi_jax.digit_world.benchmark.settings import samples_of
from codi_jax.digit_world.report import cases, findings, gallery, measures, numbers, sets
from codi_jax.modalities import MODALITIES
from codi_jax.parallel import paths
from codi_jax.progress import duration
from codi_jax.report import summary
from codi_jax.report.markup import Html, document, el, folded, section
from codi_jax.report.media import fitted
from codi_jax.report.summary import ability, listed, parameters
from codi_jax.report.training import config_section, trained_in, training
from codi_jax.report.training_samples import TITLE, training_samples
from codi_jax.train.recipe import Run, load_run


def _load(workdir: Path) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
    """Reads metrics.json in the order of `evaluate`, samples.npz as nested dicts, and cost.json."""
    try:
        metrics = in_order(json.loads((workdir / "metrics.json").read_text()))
        cost = json.loads((workdir / "cost.json").read_text())
        with (workdir / "samples.npz").open("rb") as stream, np.load(stream, allow_pickle=False) as file:
            samples = paths.nest(dict(file))
    except FileNotFoundError as error:
        missing = [name for name in ("metrics.json", "cost.json", "samples.npz") if not (workdir / name).exists()]
        raise ConfigError(f"{workdir}: no {', '.join(missing)}; run `codi-jax evaluate` first") from error
    except (OSError, ValueError) as error:
        raise ConfigError(f"{workdir}: the files of `codi-jax evaluate` are not readable ({error})") from error
    return metrics, samples, cost


def _opening(
    run: Run, name: str, names: list[str], metrics: dict[str, Any], samples: dict[str, Any], cost: dict[str, Any]
) -> Html:
    facts = (
        parameters(run.codi),
        f"{len(run.order)} stages {trained_in(cost['stages'])}",
        f"evaluated in {duration(cost['evaluate']['total'])}",
        f"{metrics['n']} {samples_of(metrics)} samples per cell",
        f"{metrics.get('generate', {}).get('steps', run.config.generate.steps)} sampling steps",
        f"seed {run.config.seed}",
    )
    title = f"{listed(names).capitalize()}, any to any"
    lead = f"{ability(names)} Measured on handwriting that was not used in training."
    best, worst = findings.best_and_worst(metrics)
    found = summary.findings(best, worst, findings.NOTE) if best else None
    return summary.opening(name, title, lead, facts, found, cases.strip(run.codi, names, samples))


def _rates(cell: dict[str, Any]) -> str:
    return listed([f"{f} {row['accuracy']:.0%}" for f, row in numbers.factor_rows(cell["factors"]).items()])


def _galleries(
    run: Run, names: list[str], metrics: dict[str, Any], samples: dict[str, Any], kind: str, real: str, columns: int
) -> Html | None:
    figures = []
    for a in names:
        cells = {b: metrics[kind][f"{a}->{b}"] for b in names if f"{a}->{b}" in metrics[kind]}
        if not cells or not columns:
            continue
        rates = [f"{b}: {_rates(cell)}" for b, cell in cells.items()]
        n = next(iter(cells.values()))["n"]
        caption = el("b", f"{a} → {listed(list(cells))}. "), f"Packaged judge, n = {n}. {'; '.join(rates)}."
        targets = [(run.codi[b], samples[kind][f"{a}->{b}"]) for b in cells]
        figures.append(gallery.prompted(run.codi[a], targets, samples["real"][real], columns, caption))
    lead = (
        f"The first {samples_of(metrics)} samples, without selection. Each column is one sample, the same in all "
        "galleries: its prompt, and of every output what was generated and the factors that a judge (a small "
        "classifier trained on other handwriting) or a parser reads from it. In parentheses: factors that "
        "the prompt does not show."
    )
    return folded("Samples of every prompt and output", el("p", lead), figures) if figures else None


def _body(
    run: Run, name: str, metrics: dict[str, Any], samples: dict[str, Any], cost: dict[str, Any], columns: int
) -> tuple[list[Html | None], list[tuple[str, str]]]:
    """The content of the page with so many samples in each gallery, and the sections it has: their name and title."""
    names = [name for name in MODALITIES if name in run.codi.modalities]
    parts: list[Html | None] = [_opening(run, name, names, metrics, samples, cost)]
    sections: list[tuple[str, str]] = []

    def add(name: str, title: str, lead: Any, *content: Any) -> None:
        sections.append((name, title))
        parts.append(section(name, title, el("p", lead), content))

    if metrics["matrix"]:
        add("matrix", "The matrix", *_matrix(run, names, metrics, samples, columns))
    if metrics["held_out"]:
        add("held-out", "Held-out combinations", *_held_out(run, names, metrics, samples, columns))
    if metrics.get("combinations"):
        add("combinations", "Any set to any set", *_combinations(run, names, metrics, samples, columns))
    if metrics["joint"]:
        add("together", "Generated together", *_joint(run, metrics, samples, columns))
    for measure in measures.sections(metrics):
        add(*measure)
    parts += [training(run, cost), training_samples(run, columns), config_section(run)]
    return parts, [*sections, ("training", "Training"), ("samples", TITLE)]


def _matrix(
    run: Run, names: list[str], metrics: dict[str, Any], samples: dict[str, Any], columns: int
) -> tuple[Any, ...]:
    read, others = outside.cells(metrics, "matrix"), outside.described(metrics)
    others = f" {others[:1].upper()}{others[1:]}." if others else ""
    if read:
        others += " Where they read a factor, their number and ceiling come first; the packaged judge's is in brackets."
    return (
        f"Fraction of outputs with the same factor as the prompt, over {metrics['n']} {samples_of(metrics)} samples "
        f"per cell.{others}",
        numbers.means(metrics),
        numbers.heat_maps(
            names,
            metrics["matrix"],
            "Rows are prompts, columns outputs; darker is better. The large number is the accuracy of the factor, the "
            "small one the ceiling: the accuracy of the same judge on real samples. ★ marks directions that were not "
            "trained as a pair. The table below has all intervals and controls.",
            read,
        ),
        numbers.matrix_table(names, metrics["matrix"], read),
        _galleries(run, names, metrics, samples, "matrix", "seen", columns),
    )


def _held_out(
    run: Run, names: list[str], metrics: dict[str, Any], samples: dict[str, Any], columns: int
) -> tuple[Any, ...]:
    read = outside.cells(metrics, "held_out")
    return (
        f"Some combinations of {listed(list(FACTORS))} were held out of training. A model that generates them has "
        "learnt to compose factors.",
        numbers.heat_maps(
            names,
            metrics["held_out"],
            "The matrix on held-out combinations, between different modalities. “All factors” requires the whole "
            "combination to be correct.",
            read,
        ),
        numbers.matrix_table(names, metrics["held_out"], read),
        _galleries(run, names, metrics, samples, "held_out", "held_out", columns),
    )


def _combinations(
    run: Run, names: list[str], metrics: dict[str, Any], samples: dict[str, Any], columns: int
) -> tuple[Any, ...]:
    table, mix = metrics["combinations"], metrics["mix"]
    mean, measured = combinations_summary(table), metrics.get("combinations_mean") or {}
    interval = " (95 % interval {:.3f} to {:.3f})".format(*measured["interval"]) if "interval" in measured else ""
    figures = []
    for cell in table if columns else ():
        inputs, outputs = (side.split("+") for side in cell.split("->"))
        if len(inputs) < 2 or set(inputs) & set(outputs) or len(inputs) + len(outputs) != len(names):
            continue
        rates = [f"{m} {rate:.0%}" for m, rate in table[cell][numbers.LEADING].items()]
        caption = (
            el("b", f"{listed(inputs)} → {listed(outputs)}. "),
            f"{numbers.LEADING.capitalize()} accuracy, n = {table[cell]['n']}: {listed(rates)}.",
        )
        sources, targets = ([run.codi[m] for m in side] for side in (inputs, outputs))
        generated = samples["combinations"][cell]["values"]
        figures.append(
            gallery.combination(sources, targets, samples["real"]["seen"]["values"], generated, caption, columns)
        )
    return (
        f"Several prompts are mixed into one context, and several outputs are generated together. Mean accuracy of the "
        f"{numbers.LEADING} over all {mean['cells']} combinations: {mean['digit']:.3f}{interval}.",
        numbers.combination_map(
            names,
            table,
            "Rows are sets of prompts, columns sets of outputs; darker is better. A cell is the mean of its outputs.",
        ),
        numbers.mix_curves(
            mix,
            f"Two prompts with different values of the {numbers.LEADING}: the fraction of outputs that follow each of "
            "them, over the mix weight of the second.",
        )
        if mix
        else None,
        folded("Samples of several prompts", figures) if figures else None,
    )


def _joint(run: Run, metrics: dict[str, Any], samples: dict[str, Any], columns: int) -> tuple[Any, ...]:
    figures, joint = [], metrics["joint"]
    for name, cell in joint.items() if columns else ():
        outputs = [run.codi[m] for m in name.split("+")]
        factor = next((f for f in FACTORS if f in cell), None)
        if factor is None:
            continue
        caption = (
            el("b", f"{listed(name.split('+'))}. "),
            "Above, generated together; below, each alone from the same noise. They agree on the "
            f"{factor} in {cell[factor]['joint']:.0%} of {cell['n']} samples when generated together, in "
            f"{cell[factor]['independent']:.0%} when generated alone.",
        )
        together, alone = samples["joint"][name], samples["independent"]
        figures.append(gallery.together(outputs, together, alone, factor, caption, columns))
    return (
        "Without a prompt, outputs can agree only by attending to one another. Generated alone, they agree by chance.",
        sets.controls(
            metrics,
            f"How often all outputs of a set show the same {numbers.LEADING}, or the factor in brackets: generated "
            "together, each alone from the same noise, of different samples (shuffled), and by chance. By the outside "
            "judges where they read it; the packaged judges' number is in brackets then. ★ marks sets that were never "
            "trained together.",
        ),
        sets.joint_bars(
            joint,
            "Agreement of outputs that are generated together, alone, and of outputs of different samples (shuffled), "
            "by the packaged judges. The dashed mark is chance, computed from the generated marginals, so that a model "
            "that always generates one value gains nothing. ★ marks sets that were never trained together.",
        ),
        sets.joint_table(
            joint,
            metrics["real"],
            "Diversity and fidelity of the outputs. Entropy: relative to a uniform distribution of values; it falls if "
            "a model loses modes. Distance: Fréchet distance to real samples in the features of the judge (not FID; "
            "smaller is better); that of other real samples is a lower bound in practice. ★ marks sets that were never "
            "trained together.",
            outside.cells(metrics, "joint"),
        ),
        sets.similarity(
            metrics["sim"],
            "SIM, as in the paper: the mean cosine similarity between outputs, with separate encoders trained on "
            "samples that were not used to train the generator. It is not zero for unrelated outputs (shuffled).",
        )
        if metrics.get("sim")
        else None,
        folded("Samples of every set, together and alone", figures) if figures else None,
    )


def write(workdir: Path) -> Path:
    """Writes workdir/report.html atomically and returns its path.

    Raises:
      ConfigError: the workdir does not contain an evaluated run.
    """
    workdir = storage.as_path(workdir)
    run = load_run(workdir)
    metrics, samples, cost = _load(workdir)
    title = f"codi_jax: {workdir.name}"

    def page(columns: int) -> Html:
        parts, sections = _body(run, workdir.name, metrics, samples, cost, columns)
        return document(title, parts, sections=sections)

    storage.write_text(workdir / "report.html", fitted(page, gallery.COLUMNS))
    return workdir / "report.html"
