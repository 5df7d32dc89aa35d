"""Generates the samples of a task into files, in batches of one size, of which those that are there are left out.

    OUT/samples/TASK/prompts.jsonl       {"key", "prompts": {modality: text or path}, "seed"}
    OUT/samples/TASK/image/KEY.png
    OUT/samples/TASK.independent/…       each output generated alone, from the same prompts and the same noise

A batch has the same samples whatever was computed before a stop, and the noise of a sample depends on its own seed
alone. All processes compute every batch together, over all devices, and each writes its share of the files.
"""

import dataclasses
import hashlib
import json
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from codi_jax import storage
from codi_jax.data.decoded_source import is_caption, truncate_caption
from codi_jax.evaluation.samples import Samples
from codi_jax.evaluation.suite.prepare import Prepared, draw
from codi_jax.evaluation.suite.tasks import Task
from codi_jax.parallel import distributed
from codi_jax.pipeline import Pipeline
from codi_jax.progress import ProgressFn
from codi_jax.sampling.chunks import split
from codi_jax.sampling.prompts import PromptWarning

LISTED = "prompts.jsonl"
INDEPENDENT = "independent"
EMPTY = ".\n"  # in place of an empty caption: it has no words either, and every network reads it
_CUTS = 1 << 16


@dataclasses.dataclass(frozen=True)
class Request:
    """What one sample is generated from.

    Attributes:
      key: of the sample.
      prompts: modality -> a text, or the path of a file.
      seed: of its noise.
    """

    key: str
    prompts: Mapping[str, str]
    seed: int


def requests(task: Task, real: Prepared, needed: Sequence[str], seed: int) -> list[Request]:
    """The requests of a task, one of every real sample that has what is needed.

    Args:
      task: the task.
      real: the real samples.
      needed: modalities that a real sample must have, the prompts among them.
      seed: of all draws.
    """
    samples = real.samples(needed)
    return [
        Request(key, {name: _prompt(task, samples, name, key, seed) for name in task.prompts}, _seed(seed, key))
        for key in real.keys_with(needed)
    ]


def _prompt(task: Task, samples: Samples, name: str, key: str, seed: int) -> str:
    if not is_caption(name):
        return str(samples.content(name, key))
    caption = samples.captions(key)[0]
    return truncate_caption(caption, draw(seed, f"{key}/cut", _CUTS) / _CUTS) if task.truncated else caption


def _seed(seed: int, key: str) -> int:
    """The seed of a sample, 63 bits."""
    return int.from_bytes(hashlib.sha256(f"{seed}/{key}/noise".encode()).digest()[:8]) >> 1


def generate(
    pipe: Pipeline,
    task: Task,
    given: Sequence[Request],
    folder: Path,
    batch_size: int,
    progress: ProgressFn,
    independent: bool = False,
) -> Samples:
    """Generates what is missing. A collective: every process must call it.

    Args:
      pipe: the model.
      task: the task.
      given: its requests.
      folder: for the files.
      batch_size: samples that are computed at a time.
      progress: called with samples done.
      independent: whether each output is generated alone, instead of all together.

    Returns:
      The generated samples.

    Raises:
      ConfigError: a prompt cannot be used, or the model has no weights for the task.
    """
    lines = [json.dumps(dataclasses.asdict(request), ensure_ascii=False) for request in given]
    text = "".join(f"{line}\n" for line in lines)
    distributed.run_on_primary(lambda: _make_folders(task, folder, text), f"write to {folder}")
    suffixes = {name: pipe.codi[name].suffix for name in task.outputs}
    batches = split(len(given), batch_size)
    groups = [(name,) for name in task.outputs] if independent else [task.outputs]
    title = f"{task.name}{', each output alone' if independent else ''}"
    total = len(given) * len(groups)
    done = 0
    for outputs in groups:
        for rows in batches:
            chosen = [given[i] for i in rows]
            new = dict.fromkeys(request.key for request in chosen)
            paths = {name: {key: _path(folder, name, key, suffixes[name]) for key in new} for name in outputs}
            missing = not all(path.exists() for of in paths.values() for path in of.values())
            if distributed.broadcast_from_primary(missing):
                progress(title, done, total)
                _write(pipe, task, outputs, chosen, paths)
                distributed.wait_for_all(f"{task.name} {done}")
            done += len(new)
    progress(title, total, total)
    files = {
        request.key: {name: str(_path(folder, name, request.key, suffixes[name])) for name in task.outputs}
        for request in given
    }
    return Samples(str(folder), files)


def _make_folders(task: Task, folder: Path, text: str) -> None:
    for name in task.outputs:
        (folder / name).mkdir(parents=True, exist_ok=True)
    storage.write_text(folder / LISTED, text)


def _path(folder: Path, name: str, key: str, suffix: str) -> Path:
    return folder / name / f"{key}{suffix}"


def _write(
    pipe: Pipeline,
    task: Task,
    outputs: Sequence[str],
    chosen: Sequence[Request],
    paths: Mapping[str, Mapping[str, Path]],
) -> None:
    """Generates a batch, and writes the share of this process."""
    prompts: dict[str, list[Any]] = {name: [request.prompts[name] for request in chosen] for name in task.prompts}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", PromptWarning)  # of every batch; what is not read does not count
        made = pipe(prompts, outputs, seed=[request.seed for request in chosen])
    process, processes = distributed.index_and_count()
    for name in outputs:
        for i, path in list(enumerate(paths[name].values()))[process::processes]:
            if is_caption(name) and not made[name][i].strip():
                storage.write_text(path, EMPTY)
            else:
                made.write(name, i, path)
