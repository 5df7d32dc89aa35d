"""`encode` stages: latents and prompts of a source, computed once.

    stages/NAME/arrays.npz    {modality}/{mean, std, prompt, full}, see objectives.conditioning.Encoded
    stages/NAME/arrays.json   the weights and data they were computed from, see train.encoded

With `settings.records` files that are read by position replace the .npz, for sources whose arrays do not fit in memory:

    stages/NAME/records/00000.npy      the samples of `records` batches, see data.npy_records; a run resumes by file
    stages/NAME/records/origin.json    the weights and data they are computed from

Each process of a run encodes its share of the batches (or of the files) on one device, with the same program that a
single process would run. So the files are bit-identical for any number of processes with the same number of devices
each; on CPU that number changes the threads of XLA and, with them, the last bits.
"""

import itertools
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from codi_jax import storage
from codi_jax.config import ConfigError, config_class, from_dict
from codi_jax.data import npy_records
from codi_jax.data.mixture import Mixture
from codi_jax.data.pipeline import in_order
from codi_jax.data.source import Source
from codi_jax.objectives.conditioning import encode
from codi_jax.parallel import distributed, paths
from codi_jax.train import encoded
from codi_jax.train.metrics import Progress
from codi_jax.train.recipe import Run
from codi_jax.train.stop import Preempted, Stop


@config_class()
class EncodeConfig:
    """Settings of an `encode` stage.

    Attributes:
      records: number of batches per file; 0 writes all samples into one .npz, which training loads into
        memory.
    """

    records: int = 0

    def __post_init__(self):
        if self.records < 0:
            raise ConfigError(f"records: expected a number of batches, got {self.records}")


def _settings(run: Run, name: str) -> EncodeConfig:
    return from_dict(EncodeConfig, run.stage(name).settings, f"stages.{name}.settings")


def _encoded(
    run: Run, name: str, variables: dict[str, Any], source: Source, shares: Sequence[Sequence[int]], overall: Any
) -> Iterator[tuple[int, dict[str, dict[str, np.ndarray]]]]:
    """Encodes the batches of this process.

    Args:
      run, name: the stage.
      variables: of the codecs and prompt encoders.
      source: the samples.
      shares: of each process, the numbers of the batches that it encodes.
      overall: the progress of the whole recipe, see `train.overall`.

    Yields:
      (number of the batch, {modality: fields of Encoded}), without padding.

    Raises:
      Preempted: SIGTERM came.
    """
    stage, share = run.stage(name), shares[jax.process_index()]
    program = jax.jit(lambda v, batch: encode(run.codi, v, batch))

    def transform(samples: Any) -> Any:
        return {m: run.codi[m].prepare(samples) for m in stage.modalities}

    batches = in_order(source, stage.batch_size, transform, share, 2)
    left, done = sum(map(len, shares)), 0
    total = -(-len(source) // stage.batch_size)
    start = (total - left) * stage.batch_size
    with Progress(name, len(source), 1, start, overall=overall) as progress, Stop().listening() as stop:
        for turn in range(max(map(len, shares))):  # all processes pass the same number of sync points
            if stop.here():
                effect = "resumes" if _settings(run, name).records else "starts again"
                raise Preempted(f"stopped in {name}, which {effect} when it is run again")
            done += sum(turn < len(numbers) for numbers in shares)
            if turn < len(share):
                batch = next(batches)
                rows = len(jax.tree.leaves(batch)[0])
                short = stage.batch_size - rows  # the last batch is padded, so that nothing is compiled again
                batch = jax.tree.map(lambda x, n=short: np.pad(x, [(0, n)] + [(0, 0)] * (x.ndim - 1)), batch)
                out = program(variables, batch)
                fields = {m: {k: v for k, v in vars(e).items() if v is not None} for m, e in out.items()}
                yield share[turn], jax.tree.map(lambda x, n=rows: np.asarray(x)[:n], fields)
            progress.update(min((total - left + done) * stage.batch_size, len(source)))


def compute(run: Run, name: str, variables: dict[str, Any], source: Source, overall: Any = None) -> None:
    """Encodes every sample of the stage's source and writes the arrays atomically.

    Args:
      run, name: the stage.
      variables: of the codecs and prompt encoders.
      source: the samples.
      overall: the progress of the whole recipe, see `train.overall`.

    Raises:
      ConfigError: the source is a mixture, or there are records of other weights or another source.
      Preempted: SIGTERM came; only complete files of records are kept.
    """
    stage, directory = run.stage(name), run.directory(name)
    if isinstance(source, Mixture):
        raise ConfigError(
            f"stage {name!r}: cannot encode a mixture; encode each part in its own stage and train on all of them"
        )
    total, processes = -(-len(source) // stage.batch_size), jax.process_count()
    directory.mkdir(parents=True, exist_ok=True)
    if _settings(run, name).records:
        _write_records(run, name, variables, source, total, overall)
    else:
        shares = [range(k, total, processes) for k in range(processes)]
        own = [part for _, part in _encoded(run, name, variables, source, shares, overall)]
        parts = _gather(own, directory, name)
        if parts is not None:
            with storage.atomic_write(directory / "arrays.npz") as file:
                np.savez(file, **paths.flatten(jax.tree.map(lambda *x: np.concatenate(x), *parts)))
    if distributed.is_primary():
        content = {"samples": len(source), "records": bool(_settings(run, name).records)}
        content["null"] = _null_prompts(run, name, variables)
        _write_json(directory / encoded.MARKER, {**encoded.origin(run, name), **content})
    distributed.wait_for_all(f"encoded {name}")


def _null_prompts(run: Run, name: str, variables: dict[str, Any]) -> dict[str, list[float]]:
    """The null prompts of the modalities, if they depend on the weights of prompt encoders."""
    if run.codi.config.null != "empty":
        return {}
    null = jax.jit(lambda v: run.codi.null_prompts(v, run.stage(name).modalities, 1))(variables)
    return {modality: np.asarray(prompt[0], np.float32).tolist() for modality, prompt in null.items()}


def _write_json(path: Path, content: dict[str, Any]) -> None:
    storage.write_text(path, json.dumps(content, indent=1, sort_keys=True) + "\n")


def _write_records(run: Run, name: str, variables: dict[str, Any], source: Source, total: int, overall: Any) -> None:
    """Writes the files of records that do not exist yet."""
    folder, size, processes = run.directory(name) / "records", _settings(run, name).records, jax.process_count()
    marker, origin = folder / "origin.json", encoded.origin(run, name)
    origin |= {"records": size, "batch_size": run.stage(name).batch_size}  # the samples of each file
    if marker.exists():
        says = f"{folder} was started with other weights or data"
        encoded.check_origin(run, json.loads(marker.read_text()), origin, says)
    files = [folder / f"{k:05d}.npy" for k in range(-(-total // size))]
    missing = [k for k, file in enumerate(files) if not file.exists()]
    batches = [range(k * size, min((k + 1) * size, total)) for k in missing]
    shares = [[number for numbers in batches[k::processes] for number in numbers] for k in range(processes)]
    distributed.wait_for_all(f"records of {name}")  # every process lists the files before the first one is written
    if distributed.is_primary():
        folder.mkdir(exist_ok=True)
        _write_json(marker, origin)
    distributed.wait_for_all(f"folder of {name}")
    parts: list[dict[str, Any]] = []
    for number, fields in _encoded(run, name, variables, source, shares, overall):
        parts.append(fields)
        if (number + 1) % size == 0 or number + 1 == total:
            with storage.atomic_write(files[number // size]) as file:
                npy_records.write(file, jax.tree.map(lambda *x: np.concatenate(x), *parts))
            parts = []


def _gather(parts: list[dict[str, Any]], directory: Path, name: str) -> list[dict[str, Any]] | None:
    """The batches of all processes in order, exchanged through files; None except in process 0."""
    index, processes = jax.process_index(), jax.process_count()
    if processes == 1:
        return parts
    files = [directory / f"arrays.part{k}.npz" for k in range(processes)]
    if index:
        flat = {f"{i}/{path}": x for i, part in enumerate(parts) for path, x in paths.flatten(part).items()}
        with storage.atomic_write(files[index]) as file:
            np.savez(file, **flat)
    distributed.wait_for_all(f"parts of {name}")
    if index:
        return None
    shares = [parts]
    for file in files[1:]:
        with file.open("rb") as stream, np.load(stream, allow_pickle=False) as saved:
            shares.append(list(paths.nest(dict(saved)).values()))
    for file in directory.glob("arrays.part*.npz"):  # also those of an interrupted run with more processes
        file.unlink()
    return [part for row in itertools.zip_longest(*shares) for part in row if part is not None]
