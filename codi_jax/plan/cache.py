"""A cache of compiled rows, one JSON file each, keyed by a hash of everything that a row depends on."""

import dataclasses
import functools
import hashlib
import importlib.metadata
import json
from pathlib import Path
from typing import Any

import codi_jax
from codi_jax import storage
from codi_jax.parallel import MeshConfig
from codi_jax.plan.target import Target
from codi_jax.train.recipe import Run


@functools.cache
def _source() -> str:
    """Hash of the source files of this package."""
    digest, root = hashlib.sha256(), Path(codi_jax.__file__).parent
    for path in sorted(root.rglob("*.py")):
        digest.update(str(path.relative_to(root)).encode() + path.read_bytes())
    return digest.hexdigest()


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def key(run: Run, name: str, target: Target, mesh: MeshConfig, batch_size: int) -> str:
    """The key of a row: a hash of model, stage, mesh, sharding rules, devices, versions and this package's source."""
    inputs = {
        "model": dataclasses.asdict(run.codi.config),
        "stage": dataclasses.asdict(run.stage(name)),
        "encodes": sorted(n for n, stage in run.stages.items() if not stage.trains),
        "mesh": dataclasses.asdict(mesh),
        "sharding": dataclasses.asdict(run.config.sharding),
        "target": [target.name, target.platform, len(target.devices)],
        "batch_size": batch_size,
        "versions": {package: _version(package) for package in ("jax", "jaxlib", "libtpu", "flax", "optax")},
        "source": _source(),
    }
    return hashlib.sha256(json.dumps(inputs, sort_keys=True, default=str).encode()).hexdigest()[:24]


def read(directory: Path, key: str) -> dict[str, Any] | None:
    """The cached row of a key; None if there is none or its file is damaged."""
    try:
        return json.loads((directory / f"{key}.json").read_text())
    except (OSError, ValueError):
        return None


def write(directory: Path, key: str, row: dict[str, Any]) -> None:
    """Adds a row to the cache; another process may add the same at the same time."""
    directory.mkdir(parents=True, exist_ok=True)
    storage.write_text(directory / f"{key}.json", json.dumps(row, indent=1) + "\n", shared=True)
