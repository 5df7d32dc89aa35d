"""Packages, written: safetensors files in shards, then config.json."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from codi_jax import storage
from codi_jax.config import ConfigError
from codi_jax.interop import shards
from codi_jax.interop.mapped import map_file
from codi_jax.packaged.package import DTYPES, FILES
from codi_jax.parallel import distributed, paths


def rounded(path: str, leaf: Any, dtype: str | None) -> np.ndarray:
    """A parameter, rounded to the type in which a package stores it.

    Args:
      path: of the parameter.
      leaf: the array; of several processes, which all must make this call.
      dtype: a key of `DTYPES`; None for its own.

    Raises:
      ConfigError: it overflows the type, or its own type is not one of `DTYPES`.
    """
    array = np.asarray(distributed.fetch(leaf))
    if dtype is None:
        if array.dtype not in DTYPES.values():
            raise ConfigError(f"{path} is {array.dtype}; expected one of {', '.join(DTYPES)}")
        return array
    with np.errstate(over="ignore"):
        out = array.astype(DTYPES[dtype])
    if not np.isfinite(out.astype(np.float32)).all():
        raise ConfigError(f"{path} does not fit {dtype}: its maximum is {np.abs(array).max():g}")
    return out


def write(
    directory: Path,
    weights: Mapping[str, Mapping[str, Any]],
    config: Mapping[str, Any],
    dtype: str | None,
    max_shard_size: str | int = shards.DEFAULT_SIZE,
    others: Sequence[str] = (),
) -> list[str]:
    """Writes the safetensors files, then config.json, which marks the package as complete.

    A collective: every process must call it; the first one writes. Shards of a package that was there are removed.

    Args:
      directory: where to write; created if absent.
      weights: key of `FILES` -> {"params", "constants"}; "constants" may be absent.
      config: "judges" or "run", or both; see the module docstring.
      dtype: a key of `DTYPES`, the type in which parameters are stored; None for their own.
      max_shard_size: of a safetensors file, such as "5GB" or a number of bytes; a larger one is several shards.
      others: names of files that are in the directory already and belong to the package.

    Returns:
      The names of the safetensors files and of the indices.

    Raises:
      ConfigError: a parameter overflows the type, or an invalid size.
    """
    most = shards.num_bytes(max_shard_size)
    if dtype is not None and dtype not in DTYPES:
        raise ConfigError(f"dtype: expected one of {', '.join(DTYPES)}, got {dtype!r}")
    if distributed.is_primary():
        directory.mkdir(parents=True, exist_ok=True)
    sums: dict[str, str] = {}
    written: list[str] = []
    for kind, variables in weights.items():
        constants = jax.tree.map(lambda x: np.asarray(x, np.float32), variables.get("constants", {}))
        flat = paths.flatten({"params": variables["params"], "constants": constants})
        sizes = {
            path: leaf.size * (DTYPES[dtype] if dtype and path.startswith("params/") else leaf.dtype).itemsize
            for path, leaf in flat.items()
        }
        parts = shards.split(sizes, most)
        names = shards.names_of(FILES[kind], len(parts))
        for name, members in zip(names, parts, strict=True):
            own = {path: dtype if path.startswith("params/") else None for path in members}
            arrays = {path: rounded(path, flat[path], own[path]) for path in members}
            if distributed.is_primary():
                sums[name] = _write_tensors(directory / name, arrays)
        if len(names) > 1:
            index = {
                "metadata": {"total_size": sum(sizes.values())},
                "weight_map": {path: name for name, members in zip(names, parts, strict=True) for path in members},
            }
            names.append(f"{FILES[kind]}{shards.INDEX}")
            if distributed.is_primary():
                storage.write_text(directory / names[-1], json.dumps(index, indent=1) + "\n")
        written += names

    def finish() -> None:
        sums.update({name: hashlib.sha256(map_file(directory / name).data).hexdigest() for name in others})
        storage.write_text(directory / "config.json", json.dumps({**config, "files": sums}, indent=1) + "\n")
        for path in list(directory.iterdir()):
            if path.name not in written and any(shards.is_of(path.name, FILES[kind]) for kind in weights):
                path.unlink()

    distributed.run_on_primary(finish, f"write to {directory}")
    return written


def _write_tensors(path: Path, arrays: Mapping[str, np.ndarray]) -> str:
    """Writes a safetensors file; its SHA-256."""
    from safetensors.numpy import save_file

    with storage.atomic_write(path) as temporary:
        temporary.touch()
        mode = temporary.stat().st_mode  # as the user's umask has it; save_file makes a file that only its owner reads
        save_file({name: np.asarray(array, order="C") for name, array in arrays.items()}, temporary)
        temporary.chmod(mode)
        return hashlib.sha256(map_file(temporary).data).hexdigest()
