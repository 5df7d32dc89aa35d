"""Data sets of TensorFlow Datasets, read without TensorFlow.

    {"name": "tfds", "dataset": "coco_captions", "columns": {"image": "image", "text": "captions/text"},
     "media": {"modalities": ("text", "image"), "size": 256}}

With `media`, features are captions (or lists of them), pixels, sounds and videos of any sizes, and samples are those of
files. Without `media`, a row is a sample.
"""

import dataclasses
import importlib
import os
from collections.abc import Mapping
from typing import Any

import jax

from codi_jax.config import ConfigError, config_class, first_line
from codi_jax.data.decoded_source import TIMED, MediaConfig, media_source, record_of_arrays
from codi_jax.data.skip_bad_samples import FaultsConfig
from codi_jax.data.source import Source, register
from codi_jax.media.files import MediaError


@config_class()
class TfdsConfig:
    """Config of a TensorFlow Datasets source, already prepared on disk in a random-access format (array_record).

    Attributes:
      dataset: name, with config and version if necessary: "coco_captions/2014:1.1.0".
      split: in the slicing syntax of tfds: "train", "train[:80%]".
      data_dir: where it was prepared; None for the default of tfds.
      columns: key of the sample -> feature of the data set, with "/" for nesting in both
        (`{"a/b": "c/d"}`: `sample["a"]["b"]` is `row["c"]["d"]`); empty for all features unchanged. With `media` a
        key is a modality.
      media: see MediaConfig; None if rows are samples already.
      rates: samples per second of "audio" and frames per second of "video".
      faults: see FaultsConfig; applies with `media` only.
    """

    dataset: str
    split: str = "train"
    data_dir: str | None = None
    columns: dict[str, str] = dataclasses.field(default_factory=dict)
    media: MediaConfig | None = None
    rates: dict[str, float] = dataclasses.field(default_factory=dict)
    faults: FaultsConfig = dataclasses.field(default_factory=FaultsConfig)


class Tfds:
    """A prepared tfds data set, read without TensorFlow; byte strings are decoded to str."""

    def __init__(self, config: TfdsConfig):
        tfds = importlib.import_module("tensorflow_datasets")  # slow to import, and a decorator hides its signatures

        where = config.data_dir or "the default folder of tfds"
        try:
            builder = tfds.builder(config.dataset, data_dir=config.data_dir and os.path.expanduser(config.data_dir))
            if not builder.is_prepared():
                raise ConfigError(f"not prepared in {where}: tfds build {config.dataset} --file_format=array_record")
            self._rows = builder.as_data_source(config.split)
        except ImportError as error:
            raise ConfigError(
                f"tfds {config.dataset!r}: {error}, which some of its features need, such as Audio: install it"
            ) from error
        except (ValueError, NotImplementedError, AssertionError, OSError) as error:
            first = first_line(error)
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


class TfdsRecords:
    """The rows as records of captions and decoded media, for `DecodedSource`."""

    def __init__(self, config: TfdsConfig, media: MediaConfig):
        """Opens the data set.

        Raises:
          ConfigError: as `Tfds`; a modality has no column, or a sound or video no rate.
        """
        self._name = f"{config.dataset} {config.split}"
        present = set(config.columns)
        if missing := [names[0] for names in media.needs() if not present.intersection(names)]:
            raise ConfigError(f"tfds columns: no feature for {', '.join(missing)}; give each modality one")
        if unknown := [name for name in TIMED if name in present and not config.rates.get(name, 0) > 0]:
            raise ConfigError(f"tfds rates: give the samples or frames a second of {' and '.join(unknown)}")
        self._rates, self._rows = config.rates, Tfds(config)

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: int) -> dict[str, Any]:
        name = f"{self._name}, row {index}"
        try:
            row = self._rows[index]
        except (ValueError, OSError, RuntimeError) as error:  # of the decoders of tfds
            if isinstance(error, ConfigError):
                raise
            raise MediaError("damaged", f"{name}: cannot be decoded ({type(error).__name__})") from error
        return record_of_arrays(name, row, self._rates)


@register("tfds", TfdsConfig)
def _tfds_source(config: TfdsConfig) -> Source:
    if config.media is None:
        return Tfds(config)
    return media_source(TfdsRecords(config, config.media), config.media, config.faults)


def _descend(row: Mapping[str, Any], feature: str) -> Any:
    for key in feature.split("/"):
        if not isinstance(row, Mapping):
            raise ConfigError(f"tfds: {feature!r} is nested deeper than the features")
        if key not in row:
            raise ConfigError(f"tfds: no feature {feature!r}; features are {', '.join(row)}")
        row = row[key]
    return row
