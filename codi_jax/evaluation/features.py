"""Features of all samples in files, so that memory holds a batch and a stopped computation goes on.

    OUT/features/samples.inception.image/made_of.json      what the features depend on
                                         part-00003.npz    batch 3, until all are there
                                         pool.npy          float32 [rows, F], read as a memory map
                                         counts.npy        int64 [n], rows of each sample; written last

Batch k of the samples is computed by process k mod P. Its content depends neither on P nor on what was computed before
a stop, as every batch has one size, for which the last is filled up by its last sample. If `made_of.json` says
something else than what is asked for, everything is computed again.
"""

import dataclasses
import json
import zipfile
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from codi_jax import storage
from codi_jax.config import ConfigError
from codi_jax.data.source import available_cores
from codi_jax.evaluation.networks import FeatureNetwork, Features
from codi_jax.evaluation.samples import Content
from codi_jax.parallel import distributed
from codi_jax.progress import ProgressFn

FORMAT = 1
MADE_OF, COUNTS = "made_of.json", "counts.npy"


@dataclasses.dataclass(frozen=True)
class FeatureRows:
    """Features of n samples in their order.

    Attributes:
      values: name -> float32 [rows, F], memory maps.
      counts: rows of each sample, int64 [n].
    """

    values: Mapping[str, np.ndarray]
    counts: np.ndarray

    @property
    def samples(self) -> np.ndarray:
        """The sample of each row, int64 [rows]."""
        return np.repeat(np.arange(len(self.counts)), self.counts)

    def means(self, name: str) -> np.ndarray:
        """The mean of the rows of each sample, float32 [n, F]; the features themselves if each has one row."""
        rows = self.values[name]
        if len(rows) == len(self.counts):
            return rows
        starts = np.concatenate([[0], np.cumsum(self.counts)[:-1]])
        return np.add.reduceat(rows, starts, axis=0, dtype=np.float32) / self.counts[:, None].astype(np.float32)


class Contents(Sequence[Any]):
    """Contents of samples, which are asked for when they are read."""

    def __init__(self, keys: Sequence[str], content: Any):
        self.keys, self._content = keys, content

    def __len__(self) -> int:
        return len(self.keys)

    def __getitem__(self, index: Any) -> Any:
        return self._content(self.keys[index])


def compute_features(
    folder: Path,
    network: FeatureNetwork,
    modality: str,
    contents: Sequence[Content],
    made_of: Mapping[str, Any],
    size: int,
    progress: ProgressFn,
    activity: str,
) -> FeatureRows:
    """The features of samples, from files as far as they are there. A collective: every process must call it.

    Args:
      folder: for the files; created if missing.
      network: what computes them.
      modality: of the samples.
      contents: of the samples, in order.
      made_of: what the features depend on, as JSON types.
      size: samples of a batch.
      progress: called with samples done.
      activity: its name for `progress`.

    Raises:
      ConfigError: a sample cannot be read, or its features are not finite.
    """
    made = json.loads(json.dumps({"format": FORMAT, "n": len(contents), "batch": size, **made_of}))
    distributed.run_on_primary(lambda: _prepare(folder, made), f"write to {folder}")
    if not (folder / COUNTS).exists():
        _compute_parts(folder, network, modality, contents, size, progress, activity)
        distributed.wait_for_all(f"features {folder.name}")
        distributed.run_on_primary(lambda: _join(folder, network.features, _batches(contents, size)), "join features")
    counts = np.load(folder / COUNTS, allow_pickle=False)
    return FeatureRows({name: np.load(folder / f"{name}.npy", mmap_mode="r") for name in network.features}, counts)


def _batches(contents: Sequence[Content], size: int) -> int:
    return -(-len(contents) // size)


def _part(folder: Path, batch: int) -> Path:
    return folder / f"part-{batch:05d}.npz"


def _prepare(folder: Path, made: Mapping[str, Any]) -> None:
    """Removes features that were made of something else."""
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / MADE_OF
    try:
        before = storage.read_json(file)
    except (OSError, ConfigError):
        before = None
    if before == made:
        return
    for path in (file, *folder.glob("*.npy"), *folder.glob("part-*.npz")):
        path.unlink(missing_ok=True)
    storage.write_text(file, json.dumps(made, indent=1, sort_keys=True) + "\n")


def _compute_parts(
    folder: Path,
    network: FeatureNetwork,
    modality: str,
    contents: Sequence[Content],
    size: int,
    progress: ProgressFn,
    activity: str,
) -> None:
    """Computes the batches of this process that are not there yet; the next one is read meanwhile."""
    process, processes = distributed.index_and_count()
    missing = [k for k in range(process, _batches(contents, size), processes) if not _part(folder, k).exists()]
    rows = [range(k * size, min((k + 1) * size, len(contents))) for k in missing]
    total, done = sum(map(len, rows)), 0
    progress(activity, 0, total)

    def read(index: int) -> Any:
        return network.read(modality, contents[index])

    with ThreadPoolExecutor(available_cores(), "read") as pool:
        try:
            coming = pool.map(read, rows[0]) if rows else None
            for i, batch in enumerate(missing):
                assert coming is not None
                inputs = list(coming)
                coming = pool.map(read, rows[i + 1]) if i + 1 < len(rows) else None
                found = network(modality, inputs + inputs[-1:] * (size - len(inputs)))
                _write_part(_part(folder, batch), found, len(inputs), rows[i].start)
                done += len(inputs)
                progress(activity, done, total)
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _write_part(path: Path, found: Features, n: int, first: int) -> None:
    rows = {name: [np.atleast_2d(np.asarray(x, np.float32)) for x in list(of)[:n]] for name, of in found.items()}
    for name, of in rows.items():
        if bad := [i for i, x in enumerate(of) if not np.isfinite(x).all()]:
            raise ConfigError(f"{path.parent.name}: {name} of sample number {first + bad[0]} is not finite")
    arrays: dict[str, Any] = {name: np.concatenate(of) for name, of in rows.items()}
    counts = np.array([len(x) for x in next(iter(rows.values()))], np.int64)
    with storage.atomic_write(path) as temporary, temporary.open("wb") as file:
        np.savez(file, counts=counts, **arrays)


def _join(folder: Path, names: Sequence[str], batches: int) -> None:
    """Makes the arrays of all batches, and removes the batches."""
    parts = [_part(folder, k) for k in range(batches)]
    counts = np.concatenate([_array(path, "counts") for path in parts])
    for name in names:
        with storage.atomic_write(folder / f"{name}.npy") as temporary:
            shape = (int(counts.sum()), _array(parts[0], name).shape[1])
            out = np.lib.format.open_memmap(temporary, "w+", np.float32, shape)
            start = 0
            for path in parts:
                rows = _array(path, name)
                out[start : start + len(rows)] = rows
                start += len(rows)
            out.flush()
            del out
    with storage.atomic_write(folder / COUNTS) as temporary:
        np.save(temporary, counts)
    for path in parts:
        path.unlink()


def _array(path: Path, name: str) -> np.ndarray:
    """An array of a batch.

    Raises:
      ConfigError: the file is damaged.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            return file[name]
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise ConfigError(f"{path}: damaged ({type(error).__name__}); delete it and run the same command") from error
