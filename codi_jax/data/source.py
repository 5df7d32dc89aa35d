"""Data sources: random access to samples by index; their registry, by the name in a config.

A sample is a nested dict of arrays, numbers and strings. The same index must always give the same sample: resuming and
resharding a run rely on this. A source has two ways to speed up `read_batch`, both optional:

    read(indices)      a method that returns a stacked batch; `read_batch` calls it instead of `__getitem__`
    parallel = True    an attribute, for samples that are decoded outside of Python; `read_batch` then decodes them on a
                       thread pool, one worker per core
"""

import functools
import json
import os
import warnings
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import Any, NamedTuple, Protocol, TypeVar, runtime_checkable

import jax
import numpy as np

from codi_jax.config import ConfigError, from_dict, to_dict
from codi_jax.registry import Registry


class Source(Protocol):
    """Random access to samples."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Any: ...


@runtime_checkable
class BatchReader(Protocol):
    """The optional method of a source that reads a batch."""

    def read(self, indices: Sequence[int] | np.ndarray) -> Any: ...


class SourceEntry(NamedTuple):
    """A registered source: the class of its config, and the function that makes the source from the config."""

    config: type
    make: Callable[[Any], Source]


SOURCES: Registry[SourceEntry] = Registry(
    "source",
    {
        "digit_world": "codi_jax.digit_world.world",
        "arrays": "codi_jax.data.arrays",
        "tfds": "codi_jax.data.tfds",
        "manifest": "codi_jax.data.manifest",
        "arrayrecord": "codi_jax.data.arrayrecord",
        "webdataset": "codi_jax.data.webdataset",
        "mixture": "codi_jax.data.mixture",
    },
)

_Make = TypeVar("_Make", bound=Callable[[Any], Source])


def register(name: str, config: type) -> Callable[[_Make], _Make]:
    """Decorator of a class of sources, or of a function that makes one: `sources.NAME.name` in a config then names it.

    Args:
      name: the name.
      config: the dataclass of its config; the source is made from an instance.

    Raises:
      ValueError: another source has the name.
    """

    def add(make: _Make) -> _Make:
        SOURCES.add(name, SourceEntry(config, make))
        return make

    return add


def available_cores() -> int:
    """The number of CPU cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@functools.cache
def _pool() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(available_cores(), "read")


def read_batch(source: Source, indices: Sequence[int] | np.ndarray) -> Any:
    """Reads the samples `indices` and stacks them leaf by leaf along a new first axis."""
    if isinstance(source, BatchReader):
        return source.read(indices)
    map_fn = _pool().map if getattr(source, "parallel", False) and available_cores() > 1 else map
    samples = list(map_fn(source.__getitem__, map(int, indices)))
    return jax.tree.map(lambda *leaves: np.stack(leaves), *samples)


def check_indices(indices: Sequence[int] | np.ndarray, size: int, name: str) -> np.ndarray:
    """The indices of a batch as int64 [N].

    Args:
      indices: of samples, [N].
      size: number of samples of the source.
      name: of the source, for the message.

    Raises:
      IndexError: an index is out of range.
    """
    found = np.asarray(indices, np.int64)
    if found.size and (found.min() < 0 or found.max() >= size):
        raise IndexError(f"{name} has samples 0 to {size - 1}, got indices {found.min()} to {found.max()}")
    return found


def transform_rows(transform: Callable[[Any], Any], batch: Any) -> Any:
    """`transform` of a stacked batch, computed in parts of its rows on the thread pool, one part for each core.

    Args:
      transform: maps a stacked batch to arrays with the same rows, each of which depends on its own row alone.
      batch: pytree of arrays [B, ...].
    """
    rows = len(jax.tree.leaves(batch)[0])
    ends = np.linspace(0, rows, min(available_cores(), rows) + 1).astype(int)
    if len(ends) <= 2:
        return transform(batch)
    parts = [jax.tree.map(lambda x, a=a, b=b: x[a:b], batch) for a, b in pairwise(ends)]
    return jax.tree.map(lambda *leaves: np.concatenate(leaves), *_pool().map(transform, parts))


def make_source(config: Mapping[str, Any], where: str = "data") -> Source:
    """Builds the source that a config describes: {"name": "digit_world", "split": "train", ...}.

    Args:
      config: a mapping with `name`, a name of `SOURCES`, and the fields of that source's config class.
      where: path of `config` in the whole config, for messages.

    Raises:
      ConfigError: the name is unknown, or the config or its files cannot be used.
    """
    rest = dict(config.items())
    entry = _entry(rest.pop("name", None), where)
    return entry.make(from_dict(entry.config, rest, where))


def effective_config(config: Mapping[str, Any], where: str = "data") -> dict[str, Any]:
    """What the samples of a source depend on, as JSON types: two configs with the same one give the same samples.

    Default values are included, and fields that are marked as `config.NO_EFFECT` (logs, time limits, caches) are not.

    Args:
      config, where: see `make_source`.

    Raises:
      ConfigError: see `make_source`; files are not read.
    """
    rest = dict(config.items())
    if (name := rest.pop("name", None)) is None:  # a part of a mixture that names a stage
        return json.loads(json.dumps(rest))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # given when the source is made
        fields = to_dict(from_dict(_entry(name, where).config, rest, where), effective=True)
    for key, part in dict(fields.get("parts", {})).items():  # of a mixture
        weight = {"weight": float(part.pop("weight", 1.0))}
        fields["parts"][key] = {**effective_config(part, f"{where}.parts.{key}"), **weight}
    return {"name": name, **json.loads(json.dumps(fields))}


def _entry(name: Any, where: str) -> SourceEntry:
    try:
        return SOURCES.find(name)
    except ConfigError as error:
        raise ConfigError(f"config.{where}.name: {error}") from None
