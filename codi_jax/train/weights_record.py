"""Hashes of the weights that a run starts from, so that a change of them between two starts is noticed."""

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from codi_jax import storage
from codi_jax.checkpoint import index
from codi_jax.config import ConfigError

if TYPE_CHECKING:
    from codi_jax.train.recipe import Run


def description(params: Path) -> bytes:
    """The index of a checkpoint, or the config.json of a package; it has the checksums of all files."""
    for file in (params / index.NAME, params / "config.json"):
        if file.exists():
            return file.read_bytes()
    return b""


def weights_hash(params: Path, adapters: Iterable[Path] = ()) -> str:
    """A hash of a component's checkpoint, or of the package that has it, and of the adapters that are added to it."""
    return hashlib.sha256(b"".join(map(description, (params, *adapters)))).hexdigest()[:16]


def record_weights(run: "Run") -> None:
    """Writes hashes of the components in `config.weights` to the workdir, or compares them with those written there.

    Components that are new are added. Nothing is done for a run that is finished.

    Raises:
      ConfigError: a component is not the one with which the run was started.
    """
    if not run.config.weights or all(map(run.complete, run.order)):
        return
    path = run.folder / "weights.json"
    recorded = storage.read_json(path, "; delete it to use the present weights") if path.exists() else {}
    adapters = run.adapter_sources(())
    present = {name: weights_hash(where, adapters.get(name, ())) for name, where in run.converted.items()}
    if changed := sorted(component for component, digest in recorded.items() if present.get(component) != digest):
        raise ConfigError(
            f"config.weights: {', '.join(changed)} in {run.config.weights} changed since this run was started; put the "
            f"former weights back, choose another --workdir, or delete {path} to use the new ones from now on"
        )
    if present != recorded:
        storage.write_text(path, json.dumps(present, indent=1, sort_keys=True) + "\n")
