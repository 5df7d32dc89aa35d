"""`codi-jax report`: workdir/report.html, one page with everything inside it (no script, no font, no link).

It shows what `train` and `evaluate` left in the workdir and computes nothing of its own. A new modality brings its own
element (`Modality.html`); nothing here knows what it is.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np

from codi_jax import storage
from codi_jax.config import ConfigError
from codi_jax.data.digit_world import FACTORS
from codi_jax.evaluate.combinations import summary
from codi_jax.evaluate.order import in_order
from codi_jax.modalities import REGISTRY
from codi_jax.parallel import paths
from codi_jax.progress import duration
from codi_jax.report import gallery, numbers, training
from codi_jax.report.markup import Html, document, el
from codi_jax.train.recipe import Run, load_run


def _load(workdir: Path) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
    """metrics.json in the order of `evaluate`, samples.npz as nested dicts, cost.json."""
    try:
        metrics = in_order(json.loads((workdir / "metrics.json").read_text()))
        cost = json.loads((workdir / "cost.json").read_text())
        with (workdir / "samples.npz").open("rb") as stream, np.load(stream, allow_pickle=False) as file:
            samples = paths.nest(dict(file))
    except FileNotFoundError as error:
        absent = [name for name in ("metrics.json", "cost.json", "samples.npz") if not (workdir / name).exists()]
        raise ConfigError(f"{workdir}: no {', '.join(absent)}; run `codi-jax evaluate` first") from error
    except (OSError, ValueError) as error:
        raise ConfigError(f"{workdir}: what `codi-jax evaluate` left is not readable ({error})") from error
    return metrics, samples, cost


def _listed(names: list[str]) -> str:
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)


def _head(run: Run, names: list[str], metrics: dict[str, Any], cost: dict[str, Any]) -> Html:
    generate = run.config.generate
    steps = f"{generate.get('steps', '')} sampling steps".strip()
    facts = (
        f"{len(run.order)} stages {training.trained_in(cost['stages'])}",
        f"generated and measured in {duration(cost['evaluate']['total'])}",
        f"{metrics['n']} test samples a cell",
        steps,
        f"seed {run.config.seed}",
    )
    lead = (
        "A composable diffusion model: each modality has a diffusion model of its own, prompts of all modalities share "
        "one space, and outputs that are generated together attend to one another. What follows was made by one run, "
        "and is counted on handwriting that was never trained on."
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
        rates = [f"{f} right in {row['accuracy']:.0%}" for f, row in numbers.factor_rows(cell["factors"]).items()]
        caption = el("b", f"{a} → {b}. "), f"Of all {cell['n']}: {_listed(rates)}."
        made = samples[kind][f"{a}->{b}"]
        figures.append(gallery.direction(run.codi[a], run.codi[b], samples["real"][real], made, caption))
    return figures


def _section(title: str, lead: str, *content: Any) -> Html:
    return el("section", el("h2", title), el("p", lead), content)


def _body(run: Run, metrics: dict[str, Any], samples: dict[str, Any], cost: dict[str, Any]) -> Html:
    names = [name for name in REGISTRY if name in run.codi.modalities]
    parts = [_head(run, names, metrics, cost), numbers.headline(metrics)]
    parts.append(
        _section(
            "One in, one out",
            "The first test samples, not chosen ones. The same place in each line is one sample: its prompt, what the "
            "model made of it, what a judge (a small network trained on other handwriting) or a parser reads in that, "
            "and the real medium that belongs to the prompt.",
            _gallery(run, names, metrics, samples, "matrix", "seen"),
        )
    )
    parts.append(
        _section(
            "The matrix",
            f"How often the output shows what the prompt says, over {metrics['n']} test samples a cell.",
            numbers.heat_maps(
                names,
                metrics["matrix"],
                "Rows are prompts, columns outputs; darker is better. The large number is the part of outputs that "
                "show the factor right, the small one the ceiling: real media, read by the same judge. ★ marks "
                "directions that were never trained as a pair. Point at a cell for its interval and its shuffled "
                "control.",
            ),
            numbers.matrix_table(names, metrics["matrix"]),
        )
    )
    if metrics.get("combinations"):
        parts.append(_combinations(run, names, metrics, samples))
    if metrics["held_out"]:
        parts.append(
            _section(
                "Combinations it has never seen",
                f"Some combinations of {_listed(list(FACTORS))} were kept out of training altogether. A model that "
                "shows them has put them together itself.",
                _gallery(run, names, metrics, samples, "held_out", "held_out"),
                numbers.heat_maps(
                    names,
                    metrics["held_out"],
                    "The matrix over these combinations alone, from one modality to another. “All at once” asks for "
                    "the whole combination.",
                ),
                numbers.matrix_table(names, metrics["held_out"]),
            )
        )
    parts.append(_joint(run, metrics, samples))
    if metrics.get("pretrained", {}).get("judges"):
        parts.append(_outside(metrics["pretrained"]))
    parts.append(
        _section(
            "Training",
            "Every stage trains the components that it names, and reads those of the stages before it.",
            training.curves(
                run,
                "Loss of every stage over its steps: each logged value faintly, their running mean boldly. The axis is "
                "logarithmic where the loss spans more than a factor of ten.",
            ),
            training.costs(
                run,
                cost,
                "Seconds by stage and activity. “data” is time in which the device waited for the next batch; "
                "“compile” is short where a compiled program was found in the cache. Wall time is counted while a "
                "stage runs, and once where several run side by side, so that the stages may add up to more than the "
                "training took. Core time is what the cores spent in the stage's process.",
            ),
        )
    )
    config = (run.workdir / "config.json").read_text()
    parts.append(
        el("section", el("details", el("summary", "The resolved config of this run"), el("pre", config)), class_="end")
    )
    return el("main", parts)


def _combinations(run: Run, names: list[str], metrics: dict[str, Any], samples: dict[str, Any]) -> Html:
    table, mix = metrics["combinations"], metrics["mix"]
    said = summary(table)
    figures = []
    for cell in table:
        inputs, outputs = (side.split("+") for side in cell.split("->"))
        if len(inputs) < 2 or set(inputs) & set(outputs) or len(inputs) + len(outputs) != len(names):
            continue
        rates = [f"{m} right in {rate:.0%}" for m, rate in table[cell][numbers.LEADING].items()]
        caption = (
            el("b", f"{_listed(inputs)} → {_listed(outputs)}. "),
            f"Of {table[cell]['n']}, the {numbers.LEADING}: {_listed(rates)}.",
        )
        prompts, made = ([run.codi[m] for m in side] for side in (inputs, outputs))
        real = samples["real"]["seen"]["values"]
        figures.append(gallery.combination(prompts, made, real, samples["combinations"][cell]["values"], caption))
    return _section(
        "Any set in, any set out",
        f"Several prompts are mixed into one context, several outputs generated together. All {said['cells']} "
        f"combinations: the {numbers.LEADING} is right in {said['digit']:.0%} of outputs on average.",
        figures,
        numbers.combination_map(
            names,
            table,
            "Rows are sets of prompts, columns sets of outputs; darker is better. Point at a cell for each output.",
        ),
        numbers.mix_curves(
            mix,
            f"Two prompts that disagree on the {numbers.LEADING}: how often the output shows what each of them says, "
            "over the mix weight of the second.",
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
            "Above, generated together; below, each alone from the very same noise. Together they agree on the "
            f"{factor} in {cell[factor]['joint']:.0%} of {cell['n']} samples, alone in "
            f"{cell[factor]['independent']:.0%}.",
        )
        figures.append(gallery.together(outputs, samples["joint"][name], samples["independent"], factor, caption))
    return _section(
        "Generated together, with no prompt",
        "With nothing said, only the other outputs can tell an output what to show. If they attend to one another they "
        "show the same; generated alone, they agree by chance.",
        figures,
        numbers.joint_bars(
            joint,
            "Agreement of the outputs: generated together, alone, and with the outputs of different samples compared "
            "(shuffled). The dashed mark is chance, computed from what was actually generated, so that a model that "
            "always shows the same gains nothing. ★ marks sets that were never trained together.",
        ),
        numbers.joint_table(
            joint,
            metrics["real"],
            "What stands behind the agreement. Entropy: how evenly the values occur, 1 being uniform; it falls if a "
            "model loses modes. Distance: the Fréchet distance to real samples in the judge's own features (not FID; "
            "smaller is better), beside that of other real samples, which is the smallest to be hoped for. ★ marks "
            "sets that were never trained together.",
        ),
        numbers.similarity(
            metrics["sim"],
            "SIM, the paper's measure: the mean cosine of the outputs to one another, by towers of their own that were "
            "trained on samples which no generator has seen. Unrelated outputs (shuffled) are not at zero.",
        )
        if metrics.get("sim")
        else None,
    )


def _outside(found: dict[str, Any]) -> Html:
    return _section(
        "Judges from elsewhere",
        f"The same samples, the first {found['n']} of each, read by networks that learnt to read or listen elsewhere.",
        numbers.pretrained_judges(
            found, "The ceiling is what the same judge makes of real samples. Captions are parsed, not judged."
        ),
    )


def write(workdir: Path) -> Path:
    """Writes workdir/report.html, whole or not at all, and returns its path.

    Raises:
      ConfigError: the workdir holds no evaluated run.
    """
    workdir = storage.place(workdir)
    run = load_run(workdir)
    metrics, samples, cost = _load(workdir)
    body = _body(run, metrics, samples, cost)
    storage.write_text(workdir / "report.html", document(f"codi_jax: {workdir.name}", body))
    return workdir / "report.html"
