"""Finished stages of another workdir, taken over where they would come out the same here.

A stage's definition is its config, the sources it reads, the seed, the mesh, the model (without what only environment
encoders and cross-modal attention depend on, unless the stage trains these) and the definitions of the stages that it
needs. Only a stage of equal definition is taken, so that a run which differs in its last stages does not repeat the
first ones, and a stage trained elsewhere (`--stage ldm.audio`) finds its way home.
"""

import dataclasses
import json
import shutil
from pathlib import Path
from typing import Any

from codi_jax import storage
from codi_jax.checkpoint import record
from codi_jax.config import ConfigError
from codi_jax.train.recipe import Run, load_run

# What says "finished" comes last.
_KEPT = ("metrics.jsonl", "cost.json", "arrays.npz", "records", "arrays.json", "params")
_INDIFFERENT = (
    "log_every",
    "checkpoint_every",
    "keep_last",
    "keep_every",
    "offload",
    "scheduling_weight",
)  # they change no number


def _plain(tree: Any) -> Any:
    """A config as JSON has it, whether it came from a file or from Python: no tuples, no ConfigDict."""
    return json.loads(json.dumps(tree, default=lambda config: config.to_dict()))


def _model(run: Run, joint: bool) -> dict[str, Any]:
    model = _plain(run.config.model)
    if not joint:
        model.pop("environment_tokens", None)
        for parts in model["modalities"].values():
            parts.pop("environment", None)
    return model


def definition(run: Run, name: str) -> dict[str, Any]:
    """All that the outcome of a stage depends on."""
    stage = run.stage(name)
    config = {k: v for k, v in dataclasses.asdict(stage).items() if k not in _INDIFFERENT}
    read = (stage.source,) if isinstance(stage.source, str) else stage.source
    return {
        "stage": _plain(config),
        "sources": _plain({source: run.config.sources[source] for source in read if source in run.config.sources}),
        "seed": run.config.seed,
        "mesh": _plain(dataclasses.asdict(run.config.mesh)),
        "sharding": _plain(dataclasses.asdict(run.config.sharding)),
        "model": _model(run, stage.objective == "latent_alignment"),
        "depends_on": {need: definition(run, need) for need in stage.depends_on},
        **({"weights": run.fingerprint((), {})} if run.converted else {}),
    }


def reuse(run: Run, workdir: Path) -> tuple[str, ...]:
    """Copies the finished stages of another workdir whose definition is the same here, and names them.

    What is finished or begun here is left alone.

    Raises:
      ConfigError: there is no run in `workdir`, or nothing in it can serve here.
    """
    other = load_run(workdir)
    taken = []
    for name in run.order:
        if name not in other.stages or run.directory(name).exists() or not other.finished(name):
            continue
        if definition(run, name) != definition(other, name) or not all(
            run.finished(n) for n in run.stage(name).depends_on
        ):
            continue
        here = run.directory(name)
        in_place = storage.in_store(here)  # where a directory cannot be renamed
        fresh = here if in_place else here.with_name(here.name + ".new")
        if not in_place:
            shutil.rmtree(fresh, ignore_errors=True)
        for part in (other.directory(name) / kept for kept in _KEPT):
            if part.exists():
                fresh.mkdir(parents=True, exist_ok=True)
                storage.copy(part, fresh / part.name, last=record.NAME)
        if not in_place:
            fresh.rename(here)
        taken.append(name)
    if not taken and not any(run.finished(name) for name in run.order):
        raise ConfigError(f"--reuse: no finished stage of {workdir} is defined as one of {run.workdir} is")
    return tuple(taken)
