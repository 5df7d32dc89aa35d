"""Data sets of TensorFlow Datasets, read without TensorFlow."""

import dataclasses
import importlib
from collections.abc import Mapping
from typing import Any

import jax

from codi_jax.config import ConfigError, config_class
from codi_jax.data.source import register


@config_class()
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


@register("tfds", TfdsConfig)
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
