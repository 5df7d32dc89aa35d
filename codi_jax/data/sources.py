"""The registry of data sources, by the name in a config."""

import dataclasses
import importlib
import zipfile
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import numpy as np

from codi_jax import storage
from codi_jax.config import ConfigError, from_dict
from codi_jax.data.arrayrecord import ArrayRecordConfig, ArrayRecords, MediaRecords
from codi_jax.data.decoded_source import DecodedSource
from codi_jax.data.digit_world import DigitWorld, WorldConfig
from codi_jax.data.manifest import Manifest, ManifestConfig
from codi_jax.data.mixture import Mixture, MixtureConfig
from codi_jax.data.skip_bad_samples import SkipBadSamples
from codi_jax.data.source import Source
from codi_jax.data.webdataset import WebDataset, WebDatasetConfig


class Arrays:
    """A source in memory: a nested dict of arrays whose first axis is the sample."""

    def __init__(self, arrays: Mapping[str, Any]):
        self.arrays = jax.tree.map(np.asarray, dict(arrays))
        leaves = jax.tree.leaves_with_path(self.arrays)
        lengths = {jax.tree_util.keystr(path): len(leaf) if leaf.ndim else None for path, leaf in leaves}
        distinct = {length for length in lengths.values() if length is not None}
        if len(distinct) != 1 or None in lengths.values():
            raise ConfigError(f"the arrays of a data set must have one length, got {lengths}")
        (self._length,) = distinct

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, index: int) -> dict[str, Any]:
        return jax.tree.map(lambda x: x[index], self.arrays)

    def read(self, indices: Sequence[int] | np.ndarray) -> dict[str, Any]:
        return jax.tree.map(lambda x: x[np.asarray(indices)], self.arrays)


@dataclasses.dataclass(frozen=True)
class ArraysConfig:
    """Config of a source of arrays.

    Attributes:
      path: an .npz file, local or on gs:// or s3://.
    """

    path: str


def _arrays(config: ArraysConfig) -> Arrays:
    try:
        with storage.as_path(config.path).open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            return Arrays(dict(arrays))
    except (OSError, ValueError, TypeError, zipfile.BadZipFile) as error:
        raise ConfigError(f"{config.path}: not a readable .npz file of arrays ({error})") from error


@dataclasses.dataclass(frozen=True)
class TfdsConfig:
    """Config of a TensorFlow Datasets source, already prepared on disk in a random-access format (array_record).

    Attributes:
      dataset: name, with config and version if necessary: "coco_captions/2014:1.1.0".
      split: in the slicing syntax of tfds: "train", "train[:80%]".
      data_dir: where it was prepared; None for the default of tfds.
      columns: key of the sample -> feature of the data set, with "/" for nesting in both
        ({"a/b": "c/d"}: sample["a"]["b"] is row["c"]["d"]); empty for all features unchanged.
    """

    dataset: str
    split: str = "train"
    data_dir: str | None = None
    columns: dict[str, str] = dataclasses.field(default_factory=dict)


class Tfds:
    """A prepared tfds data set, read without TensorFlow; byte strings are decoded to str."""

    def __init__(self, config: TfdsConfig):
        tfds = importlib.import_module("tensorflow_datasets")  # slow to import, and a decorator hides its signatures

        where = config.data_dir or "the default folder of tfds"
        try:
            builder = tfds.builder(config.dataset, data_dir=config.data_dir)
            if not builder.is_prepared():
                raise ConfigError(f"not prepared in {where}: tfds build {config.dataset} --file_format=array_record")
            self._rows = builder.as_data_source(config.split)
        except (ValueError, NotImplementedError, AssertionError, OSError) as error:
            first = (str(error).strip() or type(error).__name__).splitlines()[0]
            raise ConfigError(f"tfds {config.dataset!r}, split {config.split!r}: {first}") from error
        self._columns = config.columns
        if len(self):
            self[0]  # fail now if a column is missing

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: int) -> dict[str, Any]:
        row = self._rows[index]
        if self._columns:
            out: dict[str, Any] = {}
            for name, feature in self._columns.items():
                *parents, leaf = name.split("/")
                node = out
                for parent in parents:
                    node = node.setdefault(parent, {})
                node[leaf] = _descend(row, feature)
            row = out
        return jax.tree.map(lambda x: x.decode() if isinstance(x, bytes) else x, row)


def _descend(row: Mapping[str, Any], feature: str) -> Any:
    for key in feature.split("/"):
        if not isinstance(row, Mapping):
            raise ConfigError(f"tfds: {feature!r} is nested deeper than the features")
        if key not in row:
            raise ConfigError(f"tfds: no feature {feature!r}; features are {', '.join(row)}")
        row = row[key]
    return row


def _media(records: type) -> Callable[[Any], Source]:
    """A function from a reader's config to its source: records are decoded and bad samples replaced."""

    def build(config: Any) -> Source:
        process = jax.process_index() if jax.distributed.is_initialized() else 0
        return SkipBadSamples(DecodedSource(records(config), config.media), config.faults, process)

    return build


def _arrayrecord(config: ArrayRecordConfig) -> Source:
    return ArrayRecords(config.path) if config.media is None else _media(MediaRecords)(config)


def _mixture(config: MixtureConfig) -> Mixture:
    parts = {}
    for name, part in sorted(config.parts.items()):  # sorted, since a ConfigDict keeps no order
        if not hasattr(part, "items"):
            raise ConfigError(f"config.mixture.parts.{name}: expected the config of a source, got {part!r}")
        rest = dict(part.items())
        weight = rest.pop("weight", 1.0)
        parts[name] = (weight, make_source(rest, f"mixture.parts.{name}"))
    return Mixture(parts, config.whole_batches)


SOURCES: dict[
    str, tuple[type, Callable[[Any], Source]]
] = {  # name -> (config class, function from the config to the source)
    "digit_world": (WorldConfig, DigitWorld),
    "arrays": (ArraysConfig, _arrays),
    "tfds": (TfdsConfig, Tfds),
    "manifest": (ManifestConfig, _media(Manifest)),
    "arrayrecord": (ArrayRecordConfig, _arrayrecord),
    "webdataset": (WebDatasetConfig, _media(WebDataset)),
    "mixture": (MixtureConfig, _mixture),
}


def make_source(config: Mapping[str, Any], where: str = "data") -> Source:
    """Builds the source that a config describes: {"name": "digit_world", "split": "train", ...}.

    Args:
      config: a mapping with `name`, a key of `SOURCES`, and the fields of that source's config class.
      where: path of `config` in the whole config, for messages.

    Raises:
      ConfigError: the name is unknown, or the config or its files cannot be used.
    """
    rest = dict(config.items())
    name = rest.pop("name", None)
    if name not in SOURCES:
        raise ConfigError(f"config.{where}.name: no source {name!r}; sources are {', '.join(SOURCES)}")
    kind, build = SOURCES[name]
    return build(from_dict(kind, rest, where))
