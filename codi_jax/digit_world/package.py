"""`codi-jax package`: writes finished runs as the files of a packaged model (`codi_jax.packaged`).

One run has trained the model, another one (or the same) the judges and similarity towers. A package is complete: every
component of the model, a judge for every modality without a parser, a similarity tower for every modality.

The judges are packaged first, since the card holds the numbers of an evaluation with them:

    codi-jax package --judges=out/judges --out=out/package
    codi-jax evaluate --workdir=out/model --judges=out/package
    codi-jax package --workdir=out/model --judges=out/judges --out=out/package

Judges may also be those of another package, so that a retrained model is evaluated by the same judges. A run that
starts from a package (`config.weights`) is written with the components that it has not trained; "started_from" of
config.json has the configs of the runs that trained those, the first one first.
"""

import json
from pathlib import Path
from typing import Any

import jax

from codi_jax import digit_world, packaged, storage
from codi_jax.config import ConfigError, to_dict
from codi_jax.digit_world import card, judges
from codi_jax.digit_world.judges import similarity
from codi_jax.hub import card as hub_card
from codi_jax.interop.shards import DEFAULT_SIZE
from codi_jax.packaged import Package
from codi_jax.parallel.tables import size, table
from codi_jax.train.recipe import Run
from codi_jax.train.variables import assemble

# Fields of a run's config; the others are of the machine.
_KEPT = ("model", "generate", "evaluate", "sources", "stages", "seed", "plugins")


def _weights(run: Run, components: tuple[str, ...]) -> dict[str, Any]:
    """Variables of finished stages.

    Raises:
      ConfigError: no stage has trained some of the components; the message names them all.
    """
    stages = run.finished_stages()
    if missing := [c for c in components if c not in run.component_sources(stages)]:
        raise ConfigError(f"package: no finished stage of {run.workdir} has trained {', '.join(missing)}")
    return assemble(run, stages, components)


def _judging(run: Run | Package) -> tuple[dict[str, Any], dict[str, Any]]:
    """(weights by kind, the config's "judges") of a run that trained judges and towers, or of a package with them."""
    if isinstance(run, Package):
        return {kind: {"params": run.read(kind)["params"]} for kind in ("judges", "similarity")}, run.judges
    settings = {stage.modalities[0]: stage.settings for stage in run.stages.values() if stage.objective == "judge"}
    judged = tuple(name for name in run.codi.modalities if name not in digit_world.READERS)
    if missing := [name for name in judged if name not in settings]:
        raise ConfigError(f"package: {run.workdir} has no `judge` stage of {', '.join(missing)}")
    weights = {
        "judges": _weights(run, tuple(judges.component(name) for name in judged)),
        "similarity": _weights(run, tuple(similarity.component(name) for name in run.codi.modalities)),
    }
    # Judges and towers have no constants; `assemble` returns those of the model.
    weights = {kind: {"params": variables["params"]} for kind, variables in weights.items()}
    return weights, {"model": to_dict(run.config.model), "settings": {name: settings[name] for name in judged}}


def _resolved(run: Run) -> dict[str, Any]:
    """The saved config of a run, without the fields that name its machine and folders."""
    tree = json.loads((run.folder / "config.json").read_text())
    tree["evaluate"] = {key: value for key, value in tree.get("evaluate", {}).items() if key != "judges"}
    return {key: tree[key] for key in _KEPT if key in tree}


def _start(run: Run) -> Package | None:
    """The package whose weights the run started from, if there is one."""
    return packaged.open_package(run.config.weights) if packaged.is_package(run.config.weights) else None


def _readme(run: Run, model_card: dict[str, Any]) -> str:
    """README.md: the card, with what the hub reads of it."""
    return hub_card.render(
        "Model card",
        tuple(run.codi.modalities),
        where="FOLDER",
        license=model_card["licence"],
        rows=hub_card.numbers(model_card["numbers"]),
        plugins=run.config.plugins,
        body=card.text(model_card),
    )


def package(
    run: Run | None,
    judging: Run | Package,
    out: Path,
    dtype: str = "float16",
    about: card.About | None = None,
    max_shard_size: str | int = DEFAULT_SIZE,
) -> str:
    """Writes safetensors files, config.json and the card.

    Args:
      run: the run of the model; None packages judges alone, for evaluating a model before it is packaged.
      judging: the run or package of the judges and similarity towers.
      out: directory for the files.
      dtype: of the packaged parameters, a key of `packaged.DTYPES`.
      about: the card's entries that the runs do not hold.
      max_shard_size: of a safetensors file, see `packaged.write`.

    Returns:
      A table of the files.

    Raises:
      ConfigError: a component, a judge or a tower is missing, or a parameter overflows `dtype`.
    """
    weights, judges_config = _judging(judging)
    config, model_card = {"judges": judges_config}, None
    if run is not None:
        weights = {"model": _weights(run, tuple(run.codi.component_names())), **weights}
        start = _start(run)
        before = {} if start is None else {"started_from": [*start.started_from, start.run]}
        config = {"run": _resolved(run), **before, **config}
        model_card = card.card(run, judging, dtype, _count(weights["model"]), about or card.About(), start)
    files = packaged.write(out, weights, config, dtype, max_shard_size)
    if run is not None and model_card is not None:
        storage.write_text(out / packaged.CARD, json.dumps(model_card, indent=1) + "\n")
        storage.write_text(out / hub_card.NAME, _readme(run, model_card))
        files += [packaged.CARD, hub_card.NAME]
    counts = {packaged.FILES[kind]: f"{_count(variables):,}" for kind, variables in weights.items()}
    files += ["config.json"]
    sizes = storage.files(out)
    rows = [("file", "parameters", "size"), *((file, counts.get(file, ""), size(sizes[file])) for file in files)]
    return table([*rows, ("", "", size(sum(sizes[file] for file in files)))], right=(1, 2))


def _count(variables: dict[str, Any]) -> int:
    return sum(leaf.size for leaf in jax.tree.leaves(variables["params"]))
