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
from codi_jax.digit_world.benchmark.combinations import summary
from codi_jax.digit_world.benchmark.order import in_order
from codi_jax.digit_world.benchmark.settings import samples_of
from codi_jax.digit_world.report import gallery, measures, numbers
from codi_jax.modalities import MODALITIES
from codi_jax.parallel import paths
from codi_jax.progress import duration
from codi_jax.report import training
from codi_jax.report.markup import Html, document, el
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


def _listed(names: list[str]) -> str:
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)


def _head(run: Run, names: list[str], metrics: dict[str, Any], cost: dict[str, Any]) -> Html:
    steps = f"{metrics.get('generate', {}).get('steps', run.config.generate.steps)} sampling steps"
    facts = (
        f"{len(run.order)} stages {training.trained_in(cost['stages'])}",
        f"evaluated in {duration(cost['evaluate']['total'])}",
        f"{metrics['n']} {samples_of(metrics)} samples per cell",
        steps,
        f"seed {run.config.seed}",
    )
    lead = (
        "A composable diffusion model: each modality has its own diffusion model, prompts of all modalities share one "
        "embedding space, and outputs that are generated together attend to one another. All results on this page are "
        "from one run, on handwriting that was not used in training."
    )
    return el(
        "header",
        el("p", "codi_jax", class_="kicker"),
        el("h1", f"{_listed(names).capitalize()}, any to any"),
        el("p", lead, class_="lead"),
        el("p", " · ".join(facts), class_="facts"),
    )


def _gallery(
    run: Run, names: list[str], metrics: dict[str, Any], samples: dict[str, Any], kind: str, real: str
) -> list[Html]:
    pairs = [(a, b) for a in names for b in names if a != b]
    pairs += [(a, a) for a in names] if kind == "matrix" else []
    figures = []
    for a, b in pairs:
        cell = metrics[kind][f"{a}->{b}"]
        rates = [f"{f} {row['accuracy']:.0%}" for f, row in numbers.factor_rows(cell["factors"]).items()]
        caption = el("b", f"{a} → {b}. "), f"Accuracy, n = {cell['n']}: {_listed(rates)}."
        generated = samples[kind][f"{a}->{b}"]
        figures.append(gallery.direction(run.codi[a], run.codi[b], samples["real"][real], generated, caption))
    return figures


def _section(title: str, lead: str, *content: Any) -> Html:
    return el("section", el("h2", title), el("p", lead), content)


def _body(run: Run, metrics: dict[str, Any], samples: dict[str, Any], cost: dict[str, Any]) -> Html:
    names = [name for name in MODALITIES if name in run.codi.modalities]
    parts: list[Html | None] = [_head(run, names, metrics, cost), numbers.headline(metrics)]
    if metrics["matrix"]:
        parts += _matrix(run, names, metrics, samples)
    if metrics.get("combinations"):
        parts.append(_combinations(run, names, metrics, samples))
    if metrics["held_out"]:
        read = outside.cells(metrics, "held_out")
        parts.append(
            _section(
                "Held-out combinations",
                f"Some combinations of {_listed(list(FACTORS))} were held out of training. A model that generates them "
                "has learnt to compose factors.",
                _gallery(run, names, metrics, samples, "held_out", "held_out"),
                numbers.heat_maps(
                    names,
                    metrics["held_out"],
                    "The matrix on held-out combinations, between different modalities. “All factors” requires the "
                    "whole combination to be correct.",
                    read,
                ),
                numbers.matrix_table(names, metrics["held_out"], read),
            )
        )
    parts.append(_joint(run, metrics, samples))
    parts += [_section(*section) for section in measures.sections(metrics)]
    parts.append(
        _section(
            "Training",
            "Every stage trains its own components and uses those of the stages before it.",
            training.curves(
                run,
                "Loss of every stage over its steps: logged values (thin) and their running mean (thick). The axis is "
                "logarithmic if the loss spans more than a factor of ten.",
            ),
            training.costs(
                run,
                cost,
                "Seconds by stage and activity. “data” is the time spent waiting for the next batch; “compile” is "
                "short if the compiled program was in the cache. The wall time of the training counts stages that ran "
                "in parallel once, so the stages may add up to more. Core time is the processor time of the stage's "
                "process.",
            ),
        )
    )
    config = (run.folder / "config.json").read_text()
    parts.append(
        el("section", el("details", el("summary", "The resolved config of this run"), el("pre", config)), class_="end")
    )
    return el("main", parts)


def _matrix(run: Run, names: list[str], metrics: dict[str, Any], samples: dict[str, Any]) -> list[Html]:
    read, others = outside.cells(metrics, "matrix"), outside.described(metrics)
    others = f" {others[:1].upper()}{others[1:]}." if others else ""
    if read:
        others += " Where they read a factor, their number and ceiling come first; the packaged judge's is in brackets."
    return [
        _section(
            "One input, one output",
            f"The first {samples_of(metrics)} samples, without selection. Each column is one sample: its prompt, the "
            "generated output, the factors that a judge (a small classifier trained on other handwriting) or a parser "
            "reads from the output, and the real output of the same sample.",
            _gallery(run, names, metrics, samples, "matrix", "seen"),
        ),
        _section(
            "The matrix",
            f"Fraction of outputs with the same factor as the prompt, over {metrics['n']} {samples_of(metrics)} "
            f"samples per cell.{others}",
            numbers.heat_maps(
                names,
                metrics["matrix"],
                "Rows are prompts, columns outputs; darker is better. The large number is the accuracy of the factor, "
                "the small one the ceiling: the accuracy of the same judge on real samples. ★ marks directions that "
                "were not trained as a pair. Hover over a cell for its interval and its shuffled control.",
                read,
            ),
            numbers.matrix_table(names, metrics["matrix"], read),
        ),
    ]


def _combinations(run: Run, names: list[str], metrics: dict[str, Any], samples: dict[str, Any]) -> Html:
    table, mix = metrics["combinations"], metrics["mix"]
    mean, measured = summary(table), metrics.get("combinations_mean") or {}
    interval = " (95 % interval {:.3f} to {:.3f})".format(*measured["interval"]) if "interval" in measured else ""
    figures = []
    for cell in table:
        inputs, outputs = (side.split("+") for side in cell.split("->"))
        if len(inputs) < 2 or set(inputs) & set(outputs) or len(inputs) + len(outputs) != len(names):
            continue
        rates = [f"{m} {rate:.0%}" for m, rate in table[cell][numbers.LEADING].items()]
        caption = (
            el("b", f"{_listed(inputs)} → {_listed(outputs)}. "),
            f"{numbers.LEADING.capitalize()} accuracy, n = {table[cell]['n']}: {_listed(rates)}.",
        )
        sources, targets = ([run.codi[m] for m in side] for side in (inputs, outputs))
        real = samples["real"]["seen"]["values"]
        figures.append(gallery.combination(sources, targets, real, samples["combinations"][cell]["values"], caption))
    return _section(
        "Any set of inputs, any set of outputs",
        f"Several prompts are mixed into one context, and several outputs are generated together. Mean accuracy of the "
        f"{numbers.LEADING} over all {mean['cells']} combinations: {mean['digit']:.3f}{interval}.",
        figures,
        numbers.combination_map(
            names,
            table,
            "Rows are sets of prompts, columns sets of outputs; darker is better. Hover over a cell for each output.",
        ),
        numbers.mix_curves(
            mix,
            f"Two prompts with different values of the {numbers.LEADING}: the fraction of outputs that follow each of "
            "them, over the mix weight of the second.",
        )
        if mix
        else None,
    )


def _joint(run: Run, metrics: dict[str, Any], samples: dict[str, Any]) -> Html | None:
    if not metrics["joint"]:
        return None
    figures, joint = [], metrics["joint"]
    for name, cell in joint.items():
        outputs = [run.codi[m] for m in name.split("+")]
        factor = next((f for f in FACTORS if f in cell), None)
        if factor is None:
            continue
        caption = (
            el("b", f"{_listed(name.split('+'))}. "),
            "Above, generated together; below, each alone from the same noise. They agree on the "
            f"{factor} in {cell[factor]['joint']:.0%} of {cell['n']} samples when generated together, in "
            f"{cell[factor]['independent']:.0%} when generated alone.",
        )
        figures.append(gallery.together(outputs, samples["joint"][name], samples["independent"], factor, caption))
    return _section(
        "Generated together, without a prompt",
        "Without a prompt, outputs can agree only by attending to one another. Generated alone, they agree by chance.",
        figures,
        numbers.joint_bars(
            joint,
            "Agreement of outputs that are generated together, alone, and of outputs of different samples (shuffled). "
            "The dashed mark is chance, computed from the generated marginals, so that a model that always generates "
            "one value gains nothing. ★ marks sets that were never trained together.",
        ),
        numbers.joint_table(
            joint,
            metrics["real"],
            "Diversity and fidelity of the outputs. Entropy: relative to a uniform distribution of values; it falls if "
            "a model loses modes. Distance: Fréchet distance to real samples in the features of the judge (not FID; "
            "smaller is better); that of other real samples is a lower bound in practice. ★ marks sets that were never "
            "trained together.",
            outside.cells(metrics, "joint"),
        ),
        numbers.similarity(
            metrics["sim"],
            "SIM, as in the paper: the mean cosine similarity between outputs, with separate encoders trained on "
            "samples that were not used to train the generator. It is not zero for unrelated outputs (shuffled).",
        )
        if metrics.get("sim")
        else None,
    )


def write(workdir: Path) -> Path:
    """Writes workdir/report.html atomically and returns its path.

    Raises:
      ConfigError: the workdir does not contain an evaluated run.
    """
    workdir = storage.as_path(workdir)
    run = load_run(workdir)
    metrics, samples, cost = _load(workdir)
    body = _body(run, metrics, samples, cost)
    storage.write_text(workdir / "report.html", document(f"codi_jax: {workdir.name}", body))
    return workdir / "report.html"
