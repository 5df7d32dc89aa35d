"""Writes real samples as the model reads them: prompts and references, in files that other programs can read, too.

    OUT/real/coco/image/KEY.png     cropped and resized to the model's size
    OUT/real/coco/text/KEY.txt      a caption in each line; the first one is the prompt
    OUT/real/coco/samples.jsonl     {"key", "files": {modality: path}} or {"key", "unreadable": why}; written last

A seed draws the samples, and of each the caption that comes first. Files that do not exist, as videos do that have been
taken down, are left out before samples are drawn, and those that cannot be read after it: the numbers of both stand in
the results.
"""

import dataclasses
import hashlib
import json
import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from codi_jax import storage
from codi_jax.codi import CoDi
from codi_jax.config import ConfigError
from codi_jax.data.decoded_source import is_caption
from codi_jax.data.source import available_cores
from codi_jax.evaluation.samples import Samples
from codi_jax.evaluation.suite.datasets import modalities_of
from codi_jax.evaluation.videos import as_file
from codi_jax.media import files
from codi_jax.media.files import MediaError, MediaFile
from codi_jax.media.metadata import probe
from codi_jax.parallel import distributed
from codi_jax.progress import ProgressFn

LISTED = "samples.jsonl"


@dataclasses.dataclass(frozen=True)
class Prepared:
    """Real samples in the files of the suite.

    Attributes:
      folder: of them.
      files: key -> modality -> path.
      missing: samples of the data set whose files do not exist.
      unreadable: key -> why it could not be read.
    """

    folder: Path
    files: Mapping[str, Mapping[str, str]]
    missing: int
    unreadable: Mapping[str, str]

    def keys_with(self, modalities: Sequence[str]) -> list[str]:
        """The samples that have all of these modalities."""
        return [key for key, row in self.files.items() if all(name in row for name in modalities)]

    def samples(self, modalities: Sequence[str]) -> Samples:
        """Those samples, with these modalities."""
        rows = {key: {name: self.files[key][name] for name in modalities} for key in self.keys_with(modalities)}
        return Samples(str(self.folder), rows)


def prepare(
    codi: CoDi, real: Samples, wanted: Sequence[str], n: int, seed: int, folder: Path, progress: ProgressFn
) -> Prepared:
    """Writes real samples. A collective: every process must call it.

    Args:
      codi: the model.
      real: the data set.
      wanted: modalities to write, as far as samples have them.
      n: number of samples; all if there are fewer.
      seed: of the draws.
      folder: for the files.
      progress: callback.

    Raises:
      ConfigError: no file of the data set exists, or none of those that were drawn can be read.
    """
    available = modalities_of(real)
    modalities = [name for name in codi.modalities if name in wanted and name in available]
    drawn, missing = _draw(real, n, seed)
    names = _safe(drawn)
    listed = folder / LISTED
    if not listed.exists():
        process, processes = distributed.index_and_count()
        own = drawn[process::processes]
        rows = list(_written(codi, real, own, modalities, names, seed, folder, progress))
        text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        gathered = distributed.gather(np.frombuffer(text.encode(), np.uint8))
        everything = b"".join(part.tobytes() for part in gathered).decode()
        distributed.run_on_primary(lambda: storage.write_text(listed, everything), f"write to {folder}")
    rows = [json.loads(line) for line in listed.read_text(encoding="utf-8").splitlines()]
    found = {row["key"]: row for row in rows}
    ordered = [found[names[key]] for key in drawn if names[key] in found]
    unreadable = {row["key"]: row["unreadable"] for row in ordered if "unreadable" in row}
    kept = {
        row["key"]: {name: str(folder / path) for name, path in row["files"].items()}
        for row in ordered
        if "files" in row
    }
    if not kept:
        raise ConfigError(f"{real.path}: none of {len(drawn)} samples can be read: {next(iter(unreadable.values()))}")
    return Prepared(folder, kept, missing, unreadable)


def _draw(real: Samples, n: int, seed: int) -> tuple[list[str], int]:
    """The keys of n samples whose files exist, and the number of samples whose files do not."""
    media = next((name for name in real.modalities if not is_caption(name)), None)
    if media is None:
        raise ConfigError(f"{real.path}: its table has captions, but no files of it were found")
    there = [key for key in real.keys if as_file(real.content(media, key)).size()]
    if not there:
        first = as_file(real.content(media, real.keys[0])).name
        raise ConfigError(f"{real.path}: no file of its {len(real)} samples exists, such as {first}")
    order = np.random.default_rng([seed, 0]).permutation(len(there))
    return [there[i] for i in order[:n]], len(real) - len(there)


def _safe(keys: Sequence[str]) -> dict[str, str]:
    """Key -> the name of its files: its last part, or all of it if that is not unique."""
    last = {key: os.path.basename(key) for key in keys}
    if len(set(last.values())) == len(last):
        return last
    return {key: key.replace("../", "").strip("/").replace("/", "_") for key in keys}


def _written(
    codi: CoDi,
    real: Samples,
    keys: Sequence[str],
    modalities: Sequence[str],
    names: Mapping[str, str],
    seed: int,
    folder: Path,
    progress: ProgressFn,
) -> Sequence[dict[str, Any]]:
    """Writes samples, and returns their lines."""
    for name in modalities:
        (folder / name).mkdir(parents=True, exist_ok=True)

    def write(key: str) -> dict[str, Any]:
        try:
            return {"key": names[key], "files": _write(codi, real, key, names[key], modalities, seed, folder)}
        except MediaError as error:
            return {"key": names[key], "unreadable": str(error)}

    out, activity = [], f"real samples of {real.path}"
    progress(activity, 0, len(keys))
    with ThreadPoolExecutor(available_cores(), "prepare") as pool:
        for done, row in enumerate(pool.map(write, keys), 1):
            out.append(row)
            progress(activity, done, len(keys))
    return out


def _write(
    codi: CoDi, real: Samples, key: str, name: str, modalities: Sequence[str], seed: int, folder: Path
) -> dict[str, str]:
    """Writes one sample; modality -> path in the folder.

    Raises:
      MediaError: it cannot be read.
    """
    out: dict[str, str] = {}
    for modality in modalities:
        path = f"{modality}/{name}{codi[modality].suffix}"
        if is_caption(modality):
            captions = real.captions(key)
            first = draw(seed, name, len(captions))
            text = "".join(f"{caption}\n" for caption in captions[first:] + captions[:first])
            storage.write_text(folder / path, text)
        else:
            value = _value(real, modality, key)
            if value is None:
                continue
            with storage.atomic_write(folder / path) as temporary:
                codi[modality].write(codi[modality].raw_from_user(value), temporary)
        out[modality] = path
    return out


def draw(seed: int, name: str, n: int) -> int:
    """An integer below n, drawn for a sample: by its name alone, whatever the other samples are."""
    return int.from_bytes(hashlib.sha256(f"{seed}/{name}".encode()).digest()[:8]) % n


def _value(real: Samples, modality: str, key: str) -> Any:
    """What a modality makes its raw value of; None if the sample does not have it."""
    if modality in real.modalities:
        return as_file(real.content(modality, key))
    video = as_file(real.content("video", key))
    return DERIVE[modality](video)


def _middle_frame(video: MediaFile) -> Image.Image:
    """The frame in the middle of a video, which the paper uses as its prompt."""
    middle = dataclasses.replace(video, start=video.start + files.seconds(video) / 2, duration=None)
    frame = files.read_video(middle, 1, 1.0, 0, np.asarray)[0]
    return Image.fromarray(frame)


def _soundtrack(video: MediaFile) -> MediaFile | None:
    """The file itself, if it has a soundtrack."""
    return video if "samples a second" in probe(video) else None


DERIVE: Mapping[str, Callable[[MediaFile], Any]] = {"image": _middle_frame, "audio": _soundtrack}
