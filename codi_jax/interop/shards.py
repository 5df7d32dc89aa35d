"""Checkpoints of one file, of several shards, or of a folder that holds either.

    model-00001-of-00002.safetensors, model-00002-of-00002.safetensors      the shards of one checkpoint
    model.safetensors.index.json                                            {"weight_map": {key: shard}, …}

The index is optional: the shards' names say how many there are.
"""

import dataclasses
import json
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from codi_jax.config import ConfigError, few
from codi_jax.interop.mapped import map_file, plain
from codi_jax.interop.tensors import open_state

INDEX = ".index.json"
DEFAULT_SIZE = "5GB"  # of a shard, that of huggingface_hub
_INDEX = re.compile(r".+\.index(\.[A-Za-z0-9_]+)?\.json")  # of diffusers' variants: ….index.fp16.json
_WRAPPERS = re.compile(r"(^|(?<=\.))(_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module)\.")  # anywhere in a key
_SHARD = re.compile(r"(.+)-([0-9]{5})-of-([0-9]{5})(\.[A-Za-z]+)")
_SUFFIXES = (".safetensors", ".bin", ".pth", ".pt", ".ckpt")
_MAX_INDEX = 64 << 20  # bytes


@dataclasses.dataclass(frozen=True)
class CheckpointFiles:
    """The files of one checkpoint.

    Attributes:
      path: what the user gave: a file, an index, a folder, or the first of several shards.
      files: the files with its tensors.
      index: key -> name of its file, if there is an index.
    """

    path: Path
    files: tuple[Path, ...]
    index: Mapping[str, str] = dataclasses.field(default_factory=dict)

    def open(self, open_file: Callable[[Path], dict[str, np.ndarray]] = open_state) -> dict[str, np.ndarray]:
        """All tensors, as read-only views of the files; keys are without the names of PyTorch's wrappers of modules.

        Args:
          open_file: opens one file: key -> view.

        Raises:
          ConfigError: a file cannot be read, two hold one key, or a key is not where the index says.
        """
        out: dict[str, np.ndarray] = {}
        where: dict[str, str] = {}
        for file in self.files:
            state = open_file(file)
            if twice := sorted(state.keys() & out.keys()):
                raise ConfigError(f"{file}: {len(twice)} keys are in another shard, too: {few(twice)}")
            out |= state
            where |= dict.fromkeys(state, file.name)
        if wrong := [key for key, name in self.index.items() if where.get(key) != name]:
            raise ConfigError(f"{self.path}: {len(wrong)} keys are not in the shard of the index: {few(wrong)}")
        plain_names = [_WRAPPERS.sub("", key) for key in out]
        if len(set(plain_names)) != len(out):
            raise ConfigError(f"{self.path}: it has tensors twice, with and without `_orig_mod.` or another wrapper")
        return dict(zip(plain_names, out.values(), strict=True))


def checkpoints(paths: Sequence[Path]) -> list[CheckpointFiles]:
    """The checkpoints of files, indices and folders; shards of one checkpoint are put together.

    Raises:
      ConfigError: a folder holds no weights, or several; a shard is missing; an index cannot be read.
    """
    out: list[CheckpointFiles] = []
    shards: dict[tuple[Any, ...], list[Path]] = {}
    for path in paths:
        if path.is_dir():
            out.append(_of_folder(path))
        elif _INDEX.fullmatch(path.name):
            out.append(_of_index(path))
    of_an_index = {file for checkpoint in out for file in checkpoint.files}
    for path in paths:
        shard = _SHARD.fullmatch(path.name)
        if path.is_dir() or _INDEX.fullmatch(path.name) or path in of_an_index:
            continue
        if shard and int(shard[3]) > 1:
            shards.setdefault((path.parent, shard[1], shard[3], shard[4]), []).append(path)
        else:
            out.append(CheckpointFiles(path, (path,)))
    return [*out, *map(_of_shards, shards.values())]


def _of_shards(given: Sequence[Path]) -> CheckpointFiles:
    """The checkpoint of these shards, which must be all of it."""
    shard = _SHARD.fullmatch(given[0].name)
    assert shard is not None, "the names of shards match"
    total = int(shard[3])
    names = [f"{shard[1]}-{n:05d}-of-{shard[3]}{shard[4]}" for n in range(1, total + 1)]
    have = {path.name for path in given}
    if missing := [name for name in names if name not in have]:
        raise ConfigError(
            f"{given[0]}: a shard of {total}, of which {few(missing)} is not given; give all of them, or their folder"
        )
    return CheckpointFiles(given[0], tuple(given[0].with_name(name) for name in names))


def _of_index(path: Path) -> CheckpointFiles:
    try:
        data = map_file(path)
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from None
    if data.size > _MAX_INDEX:
        raise ConfigError(f"{path}: an index of over {_MAX_INDEX} bytes")
    try:
        index: Any = json.loads(data.tobytes())
    except (ValueError, RecursionError):
        raise ConfigError(f"{path}: is not JSON") from None
    match index:
        case {"weight_map": dict(keys)} if keys and all(type(name) is str for name in keys.values()):
            names = list(dict.fromkeys(keys.values()))
        case _:
            raise ConfigError(f"{path}: has no weight_map of keys to files, as the index of a checkpoint has")
    if outside := [plain(name) for name in names if Path(name).name != name or name == ".." or {"\0", "\\"} & {*name}]:
        raise ConfigError(f"{path}: refused: {few(outside)} is not the name of a file beside it")
    if missing := [plain(name) for name in names if not path.with_name(name).is_file()]:
        raise ConfigError(f"{path}: {len(missing)} of its {len(names)} files are missing: {few(missing)}")
    return CheckpointFiles(path, tuple(path.with_name(name) for name in names), keys)


def _of_folder(folder: Path) -> CheckpointFiles:
    """The one checkpoint in a folder; of several formats, safetensors."""
    entries = sorted(path for path in folder.iterdir() if path.is_file())
    indices = [path for path in entries if _INDEX.fullmatch(path.name)]
    files = [path for path in entries if path.suffix in _SUFFIXES]
    if not files and not indices:
        inner = sorted({path.parent.name for suffix in _SUFFIXES for path in folder.glob(f"*/*{suffix}")})
        hint = f"; give one of its folders {few(inner, 6)}" if inner else ""
        raise ConfigError(f"{folder}: no weights ({', '.join(_SUFFIXES)}) in this folder{hint}")
    indices = [path for path in indices if ".safetensors.index." in path.name] or indices
    whole = [path for path in files if not _SHARD.fullmatch(path.name)]
    found = checkpoints([*indices, *(whole if indices else files)])
    safe = [c for c in found if all(file.suffix == ".safetensors" for file in c.files)]
    if len(safe or found) > 1:
        names = [c.path.name for c in safe or found]
        raise ConfigError(f"{folder}: {len(names)} checkpoints, {few(names)}; give the one to read")
    return dataclasses.replace((safe or found)[0], path=folder)


def num_bytes(size: str | int) -> int:
    """Parses the size of a shard: a number of bytes, or one with a decimal unit, as "500MB" or "5GB".

    Raises:
      ConfigError: it is none, or not positive.
    """
    units = {"": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}
    match = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?) *([KMGT]?B?)", str(size).upper())
    bytes_ = round(float(match[1]) * units[match[2]]) if match and match[2] in units else 0
    if bytes_ < 1:
        raise ConfigError(f'max_shard_size: expected a size such as "5GB" or "500MB", got {size!r}')
    return bytes_


def split(sizes: Mapping[str, int], most: int) -> list[list[str]]:
    """Splits keys in their order into shards of at most this size; a larger tensor is alone.

    Args:
      sizes: key -> bytes.
      most: bytes of a shard.
    """
    out: list[list[str]] = [[]]
    held = 0
    for key, size in sizes.items():
        if out[-1] and held + size > most:
            out.append([])
            held = 0
        out[-1].append(key)
        held += size
    return out


def names_of(file: str, count: int) -> list[str]:
    """The names of the shards of a checkpoint; of one shard, the name of the file."""
    stem, suffix = Path(file).stem, Path(file).suffix
    return [f"{stem}-{n:05d}-of-{count:05d}{suffix}" for n in range(1, count + 1)] if count > 1 else [file]


def is_of(name: str, file: str) -> bool:
    """Whether this is the name of a checkpoint's file, of one of its shards or of its index."""
    shard = _SHARD.fullmatch(name)
    return name in (file, f"{file}{INDEX}") or (shard is not None and f"{shard[1]}{shard[4]}" == file)
