"""Latents and prompts of a source, computed once.

stages/NAME/arrays.npz    {modality}/{mean, std, prompt, full}, see objectives.conditioning.Encoded
stages/NAME/arrays.json   what they were computed from; training refuses arrays of other weights or another source

Each process of a run encodes every n-th batch on a device of its own, by the program that a single one would run, and
process 0 puts together what they have written: the same bits for any number of processes.
"""

import itertools
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from codi_jax import storage
from codi_jax.config import ConfigError
from codi_jax.data.pipeline import in_order
from codi_jax.data.sources import Source
from codi_jax.objectives.conditioning import encode
from codi_jax.parallel import distributed, paths
from codi_jax.train.metrics import Progress
from codi_jax.train.recipe import Run
from codi_jax.train.stop import Preempted, Stop


def _origin(run: Run, name: str) -> dict[str, Any]:
    stage = run.stage(name)
    source = dict(run.config.sources[stage.source].items())
    extra = {"source": source, "modalities": list(stage.modalities)}
    return {**extra, "fingerprint": run.fingerprint(run.ancestors(name), extra)}


def compute(run: Run, name: str, variables: dict[str, Any], source: Source) -> None:
    """Encodes every sample of the stage's source and writes the arrays, complete or not at all.

    Raises:
      Preempted: SIGTERM came; what has been encoded is forgotten.
    """
    stage, directory = run.stage(name), run.directory(name)
    mine, processes = jax.process_index(), jax.process_count()
    program = jax.jit(lambda v, batch: encode(run.codi, v, batch))
    parts = []

    def transform(samples: Any) -> Any:
        return {m: run.codi[m].prepare(samples) for m in stage.modalities}

    own = in_order(source, stage.batch_size, transform, (mine, processes))
    with Progress(name, len(source), 1) as progress, Stop().listening() as stop:
        for number in range(-(-len(source) // stage.batch_size)):
            if stop.here():
                raise Preempted(f"stopped in {name}, which begins anew when it is run again")
            if number % processes != mine:
                continue
            batch = next(own)
            rows = len(jax.tree.leaves(batch)[0])
            short = stage.batch_size - rows  # the last batch is padded, so that one program serves all
            batch = jax.tree.map(lambda x, n=short: np.pad(x, [(0, n)] + [(0, 0)] * (x.ndim - 1)), batch)
            out = program(variables, batch)
            parts.append(
                {m: {k: np.asarray(v)[:rows] for k, v in vars(e).items() if v is not None} for m, e in out.items()}
            )
            progress.update(min((number + 1) * stage.batch_size, len(source)))
    directory.mkdir(parents=True, exist_ok=True)
    parts = _of_all(parts, directory, name)
    if parts is not None:
        with storage.whole(directory / "arrays.npz") as fresh:
            np.savez(fresh, **paths.flatten(jax.tree.map(lambda *x: np.concatenate(x), *parts)))
        storage.write_text(directory / "arrays.json", json.dumps(_origin(run, name), indent=1, sort_keys=True) + "\n")
    distributed.wait_for_all(f"encoded {name}")


def _of_all(parts: list[dict[str, Any]], directory: Path, name: str) -> list[dict[str, Any]] | None:
    """The batches of all processes in order, by way of the directory; None but in process 0."""
    mine, processes = jax.process_index(), jax.process_count()
    if processes == 1:
        return parts
    files = [directory / f"arrays.part{k}.npz" for k in range(processes)]
    if mine:
        flat = {f"{i}/{path}": x for i, part in enumerate(parts) for path, x in paths.flatten(part).items()}
        with storage.whole(files[mine]) as fresh:
            np.savez(fresh, **flat)
    distributed.wait_for_all(f"parts of {name}")
    if mine:
        return None
    dealt = [parts]
    for file in files[1:]:
        with file.open("rb") as stream, np.load(stream, allow_pickle=False) as saved:
            dealt.append(list(paths.nest(dict(saved)).values()))
    for file in directory.glob("arrays.part*.npz"):  # those of an interrupted run of more processes, too
        file.unlink()
    return [part for row in itertools.zip_longest(*dealt) for part in row if part is not None]


def mixed(parts: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The samples of several sets of arrays, one after the other, as one set.

    A modality that a set lacks is zero there; {modality}/present [N] says which samples have it.
    """
    names = list(dict.fromkeys(name for part in parts for name in part))
    sizes = [len(jax.tree.leaves(part)[0]) for part in parts]
    out: dict[str, Any] = {}
    for name in names:
        like = next(part[name] for part in parts if name in part)
        rows = [
            part.get(name) or {key: np.zeros((size, *leaf.shape[1:]), leaf.dtype) for key, leaf in like.items()}
            for part, size in zip(parts, sizes, strict=True)
        ]
        out[name] = {key: np.concatenate([row[key] for row in rows]) for key in like}
        has = [np.full(size, name in part, np.float32) for part, size in zip(parts, sizes, strict=True)]
        out[name]["present"] = np.concatenate(has)
    return out


def load(run: Run, name: str) -> dict[str, Any]:
    """The arrays of an `encode` stage, as nested dicts.

    Raises:
      ConfigError: there are none, or they were computed from other weights or another source.
    """
    directory = run.directory(name)
    try:
        origin = json.loads((directory / "arrays.json").read_text())
        with (directory / "arrays.npz").open("rb") as stream, np.load(stream, allow_pickle=False) as file:
            arrays = paths.nest(dict(file))
    except (OSError, ValueError) as error:
        raise ConfigError(f"stage {name!r}: no readable arrays in {directory} ({error})") from error
    if origin != json.loads(json.dumps(_origin(run, name))):
        raise ConfigError(f"{directory} was computed from other weights or data; delete it and run the stage again")
    return arrays
