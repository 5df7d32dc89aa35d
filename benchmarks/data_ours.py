"""Our readers, and bare loops of the same decoding, of `benchmarks.data`."""

import itertools
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np

from benchmarks.data_files import SETTINGS, SUFFIX, decode
from codi_jax.data import arrayrecord
from codi_jax.data.pipeline import Batches
from codi_jax.data.source import Source, make_source


class Readers:
    """Batches from the files of a folder.

    Args:
      folder: has one of `data_files.make` for each modality.
      batch_size: samples of a batch.
      threads: of `Batches`.
    """

    def __init__(self, folder: Path, batch_size: int, threads: int):
        self._folder, self._batch_size, self._threads = folder, batch_size, threads
        self._sources: dict[tuple[str, str], Source] = {}

    def _paths(self, modality: str) -> list[Path]:
        return sorted((self._folder / modality).glob(f"*.{SUFFIX[modality]}"))

    def _source(self, reader: str, modality: str) -> Source:
        folder = self._folder / modality
        media = {"modalities": (modality,), **SETTINGS}
        if reader == "digit_world":
            return make_source({"name": "digit_world", "modalities": (modality,)})
        if reader == "manifest":
            return make_source({"name": reader, "path": str(folder / "table.csv"), "media": media})
        if reader == "webdataset":
            return make_source({"name": reader, "shards": str(folder / "*.tar"), "media": media})
        if reader == "arrayrecord":
            path = folder / "records.arrayrecord"
            if not path.exists():
                data = (p.read_bytes() for p in self._paths(modality))
                arrayrecord.write(path, ({modality: d.decode() if modality == "text" else d} for d in data))
            return make_source({"name": reader, "path": str(path), "media": media})
        path = folder / "arrays.npz"
        if not path.exists():
            folder.mkdir(parents=True, exist_ok=True)
            np.savez(path, allow_pickle=False, latents=np.zeros((4096, 1024), np.float32))
        return make_source({"name": "arrays", "path": str(path)})

    def _given(self, path: Path) -> Any:
        return path.read_bytes() if path.suffix == ".txt" else path

    def _bare(self, reader: str, modality: str) -> Iterator[Any]:
        """Endless batches of what the reader reads, by a loop over samples in a random order."""
        rng, size = np.random.default_rng(0), self._batch_size
        source = self.source(reader, modality)
        rows: Callable[[int], Any] = source.__getitem__
        if reader not in ("arrays", "digit_world"):
            paths = self._paths(modality)
            rows = lambda i: decode(modality, self._given(paths[i]))  # noqa: E731
        while True:
            samples = [rows(int(i)) for i in rng.integers(0, len(source), size)]
            yield jax.tree.map(lambda *leaves: np.stack(leaves), *samples)

    def source(self, reader: str, modality: str) -> Source:
        """A source, opened once."""
        if (reader, modality) not in self._sources:
            self._sources[reader, modality] = self._source(reader, modality)
        return self._sources[reader, modality]

    def seconds(self, reader: str, modality: str, bare: bool, batches: int) -> float:
        """Seconds of a number of batches, from a stream that runs: as many were taken before as are prefetched."""
        if bare:
            return steady(self._bare(reader, modality), batches, 1)
        stream = Batches(self.source(reader, modality), self._batch_size, 0, threads=self._threads)
        try:
            return steady(stream, batches, 6)
        finally:
            stream.close()


def steady(stream: Iterator[Any], batches: int, before: int) -> float:
    """Seconds of taking some batches from a stream after others."""
    for _ in itertools.islice(stream, before):
        pass
    start = time.perf_counter()
    for _ in itertools.islice(stream, batches):
        pass
    return time.perf_counter() - start
