"""The sources there are, by the names that a config calls them."""

import dataclasses
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
    """Samples that lie in memory: a nested dict of arrays whose first axes have one length."""

    def __init__(self, arrays: Mapping[str, Any]):
        self.arrays = jax.tree.map(np.asarray, dict(arrays))
        leaves = jax.tree.leaves_with_path(self.arrays)
        lengths = {jax.tree_util.keystr(path): len(leaf) if leaf.ndim else None for path, leaf in leaves}
        if len(set(lengths.values())) != 1 or None in lengths.values():
            raise ConfigError(f"arrays of one data set need one length, got {lengths}")
        (self._length,) = set(lengths.values())

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, index: int) -> dict[str, Any]:
        return jax.tree.map(lambda x: x[index], self.arrays)

    def read(self, indices: Sequence[int] | np.ndarray) -> dict[str, Any]:
        return jax.tree.map(lambda x: x[np.asarray(indices)], self.arrays)


@dataclasses.dataclass(frozen=True)
class ArraysConfig:
    """Arrays in an .npz file, here or on gs:// or s3://, under the file's names."""

    path: str


def _arrays(config: ArraysConfig) -> Arrays:
    try:
        with storage.as_path(config.path).open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            return Arrays(dict(arrays))
    except (OSError, ValueError, TypeError, zipfile.BadZipFile) as error:
        raise ConfigError(f"{config.path}: not a readable .npz file of arrays ({error})") from error


@dataclasses.dataclass(frozen=True)
class TfdsConfig:
    """A data set of tensorflow-datasets, already prepared on disk in a random-access format (array_record).

    Attributes:
      dataset: name, with config and version if need be: "coco_captions/2014:1.1.0".
      split: in the slicing language of tfds: "train", "train[:80%]".
      data_dir: where it was prepared; None is the library's own place.
      columns: what a sample holds -> the feature it comes from, where "/" descends in both
        ({"a/b": "c/d"}: sample["a"]["b"] is row["c"]["d"]); empty for all features as they are.
    """

    dataset: str
    split: str = "train"
    data_dir: str | None = None
    columns: dict[str, str] = dataclasses.field(default_factory=dict)


class Tfds:
    """Samples of a prepared tfds data set, read without TensorFlow; byte strings become text."""

    def __init__(self, config: TfdsConfig):
        import tensorflow_datasets as tfds  # only who uses it waits for it

        where = config.data_dir or "the library's own folder"
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
            self[0]  # a column that is not there is an error now

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: int) -> dict[str, Any]:
        row = self._rows[index]
        if self._columns:
            out: dict[str, Any] = {}
            for name, feature in self._columns.items():
                *folders, leaf = name.split("/")
                place = out
                for folder in folders:
                    place = place.setdefault(folder, {})
                place[leaf] = _descend(row, feature)
            row = out
        return jax.tree.map(lambda x: x.decode() if isinstance(x, bytes) else x, row)


def _descend(row: Mapping[str, Any], feature: str) -> Any:
    for key in feature.split("/"):
        if not isinstance(row, Mapping):
            raise ConfigError(f"tfds: {feature!r} goes deeper than the features do")
        if key not in row:
            raise ConfigError(f"tfds: no feature {feature!r}; there are {', '.join(row)}")
        row = row[key]
    return row


def _media(records: type) -> Callable[[Any], Source]:
    """The source of a reader's config: its records, decoded, what cannot be used replaced."""

    def build(config: Any) -> Source:
        process = jax.process_index() if jax.distributed.is_initialized() else 0
        return SkipBadSamples(DecodedSource(records(config), config.media), config.faults, process)

    return build


def _arrayrecord(config: ArrayRecordConfig) -> Source:
    return ArrayRecords(config.path) if config.media is None else _media(MediaRecords)(config)


def _mixture(config: MixtureConfig) -> Mixture:
    parts = {}
    for name, part in sorted(config.parts.items()):  # by name: a ConfigDict keeps no order
        if not hasattr(part, "items"):
            raise ConfigError(f"config.mixture.parts.{name}: expected the config of a source, not {part!r}")
        rest = dict(part.items())
        weight = rest.pop("weight", 1.0)
        parts[name] = (weight, make_source(rest, f"mixture.parts.{name}"))
    return Mixture(parts, config.whole_batches)


SOURCES: dict[str, tuple[type, Callable[[Any], Source]]] = {  # name -> config class, source of such a config
    "digit_world": (WorldConfig, DigitWorld),
    "arrays": (ArraysConfig, _arrays),
    "tfds": (TfdsConfig, Tfds),
    "manifest": (ManifestConfig, _media(Manifest)),
    "arrayrecord": (ArrayRecordConfig, _arrayrecord),
    "webdataset": (WebDatasetConfig, _media(WebDataset)),
    "mixture": (MixtureConfig, _mixture),
}


def make_source(config: Mapping[str, Any], where: str = "data") -> Source:
    """The source that a config names: {"name": "digit_world", "split": "train", ...}.

    Args:
      config: a mapping with `name`, a key of `SOURCES`; all else goes to that source's config class.
      where: the mapping's place in the whole config, for messages.
    """
    rest = dict(config.items())
    name = rest.pop("name", None)
    if name not in SOURCES:
        raise ConfigError(f"config.{where}.name: no source {name!r}; there are {', '.join(SOURCES)}")
    kind, build = SOURCES[name]
    return build(from_dict(kind, rest, where))
