"""webdataset and the DataLoader of PyTorch over the tars of `benchmarks.data`, with the decoding of our readers."""

import functools
import importlib
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.data_files import SUFFIX, decode
from benchmarks.data_ours import steady

torch_data = importlib.import_module("torch.utils.data")
webdataset = importlib.import_module("webdataset")


def _sample(modality: str, sample: dict[str, Any]) -> Any:
    return decode(modality, sample[SUFFIX[modality]])


def _stack(samples: list[Any]) -> np.ndarray:
    return np.stack(samples)


class Loader:
    """As in `data_ours.Readers`, for tars alone.

    Args:
      folder: of the files.
      batch_size: samples of a batch.
      workers: processes of the DataLoader.
    """

    def __init__(self, folder: Path, batch_size: int, workers: int):
        self._folder, self._batch_size, self._workers = folder, batch_size, workers

    def seconds(self, modality: str, batches: int) -> float:
        """Seconds of a number of batches, from a stream that runs."""
        shards = sorted(str(path) for path in (self._folder / modality).glob("*.tar"))
        samples = webdataset.WebDataset(shards, shardshuffle=len(shards), seed=0).repeat().shuffle(64)
        stacked = samples.map(functools.partial(_sample, modality)).batched(self._batch_size, collation_fn=_stack)
        loader = torch_data.DataLoader(stacked, batch_size=None, num_workers=self._workers, prefetch_factor=4)
        stream = iter(loader)
        try:
            return steady(stream, batches, 4 * self._workers + 2)
        finally:
            del stream
