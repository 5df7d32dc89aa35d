"""Copying finished stages from another workdir if they would give the same result here.

A stage's definition is its config, the sources it reads, the seed, the mesh, what it reads of the model, and the
definitions of the stages that it depends on. Of the model it reads its own modalities, without the fields that only
environment encoders and cross-modal attention depend on unless it reads these, and the networks that others share. Only
a stage of equal definition is copied. So a run that differs in its last stages does not repeat the first ones, and a
stage trained elsewhere (`--stage ldm.audio`) can be copied into the main run.
"""

import dataclasses
import json
import shutil
from pathlib import Path
from typing import Any

from codi_jax import storage
from codi_jax.checkpoint import index
from codi_jax.config import ConfigError, to_dict
from codi_jax.data.source import effective_config
from codi_jax.modalities.base import SIZES, TIMING
from codi_jax.train.program import objective_of
from codi_jax.train.recipe import Run, load_run, named_sources

# In order of copying: the entries that mark a stage as finished come last.
_KEPT = ("metrics.jsonl", "cost.json", "arrays.npz", "records", "arrays.json", "params")
# Fields that do not change the result.
_NO_EFFECT = ("log_every", "checkpoint_every", "keep_last", "keep_every", "offload", "scheduling_weight")


def _plain(tree: Any) -> Any:
    """A config as JSON types, without tuples and ConfigDicts, so that one from a file compares with one from Python."""
    return json.loads(json.dumps(tree, default=lambda config: config.to_dict()))


def _model(run: Run, name: str) -> dict[str, Any]:
    """What a stage reads of config.model."""
    stage, codi = run.stage(name), run.codi
    components = objective_of(run, name).components if stage.trains else ()
    joint = any(c in components for c in codi.components_of(("environment", "cross", TIMING), codi.modalities))
    model = _plain(to_dict(codi.config))
    if not joint:
        model.pop("environment_tokens", None)
    for other, fields in model["modalities"].items():
        fields.pop("reads_parts", None)  # the stages that it matters to exist only with it
        if other not in stage.modalities:
            roles = [role for role, component in codi[other].components.items() if component in components]
            kept = {SIZES.get(role, role) for role in roles}
            model["modalities"][other] = {field: value for field, value in fields.items() if field in kept}
        elif not joint:
            fields.pop("environment", None)
            fields.pop(TIMING, None)
    model["modalities"] = {other: fields for other, fields in model["modalities"].items() if fields}
    return model


def definition(run: Run, name: str) -> dict[str, Any]:
    """Everything that the result of a stage depends on."""
    stage = run.stage(name)
    config = {k: v for k, v in dataclasses.asdict(stage).items() if k not in _NO_EFFECT}
    read = [source for source in named_sources(stage.source) if source in run.config.sources]
    return {
        "stage": _plain(config),
        "sources": {source: effective_config(run.config.sources[source], source) for source in read},
        "seed": run.config.seed,
        "mesh": _plain(dataclasses.asdict(run.config.mesh)),
        "sharding": _plain(dataclasses.asdict(run.config.sharding)),
        "model": _model(run, name),
        "depends_on": {need: definition(run, need) for need in stage.depends_on},
        **({"weights": run.fingerprint((), {})} if run.converted else {}),
    }


def reuse(run: Run, workdir: Path) -> tuple[str, ...]:
    """Copies the finished stages of another workdir that have the same definition in this run.

    Stages that have been started or finished here are skipped.

    Returns:
      Names of the copied stages.

    Raises:
      ConfigError: there is no run in `workdir`, or no stage can be copied and none is finished here.
    """
    other = load_run(workdir)
    copied = []
    for name in run.order:
        if name not in other.stages or run.directory(name).exists() or not other.complete(name):
            continue
        if definition(run, name) != definition(other, name) or not all(
            run.finished(n) for n in run.stage(name).depends_on
        ):
            continue
        directory = run.directory(name)
        in_place = storage.is_remote(directory)  # where a directory cannot be renamed
        temporary = directory if in_place else directory.with_name(directory.name + ".new")
        if not in_place:
            shutil.rmtree(temporary, ignore_errors=True)
        for part in (other.directory(name) / kept for kept in _KEPT):
            if part.exists():
                temporary.mkdir(parents=True, exist_ok=True)
                storage.copy(part, temporary / part.name, last=index.NAME)
        if not in_place:
            temporary.rename(directory)
        copied.append(name)
    if not copied and not any(run.finished(name) for name in run.order):
        raise ConfigError(f"--reuse: no finished stage of {workdir} has the definition of one in {run.workdir}")
    return tuple(copied)
