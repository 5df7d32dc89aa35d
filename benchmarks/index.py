"""Measures the index of a large data set: seconds to build and to open it, and bytes a sample.

    python -m benchmarks.index --samples=1000000 --folder=out/index

writes tars (a jpg, a txt and a json of a few bytes a sample, 10,000 a tar) and a csv, and prints a row for each.
"""

import argparse
import os
import resource
import shutil
import tarfile
import time
from pathlib import Path
from typing import Any

os.environ.setdefault("JAX_PLATFORMS", "cpu")

from codi_jax.data.decoded_source import MediaConfig
from codi_jax.data.manifest import Manifest, ManifestConfig
from codi_jax.data.webdataset import WebDataset, WebDatasetConfig

MEDIA = MediaConfig(("text", "image"))
PER_SHARD = 10_000


def write_shard(path: Path, first: int, count: int) -> None:
    """A tar of `count` samples, which are numbered from `first`."""
    content = {"jpg": b"x" * 100, "json": b"{}", "txt": b"a caption"}
    with path.open("wb") as file:
        for i in range(first, first + count):
            for suffix, data in content.items():
                info = tarfile.TarInfo(f"{i:09d}.{suffix}")
                info.size = len(data)
                file.write(info.tobuf(tarfile.USTAR_FORMAT) + data + bytes(-len(data) % tarfile.BLOCKSIZE))
        file.write(bytes(2 * tarfile.BLOCKSIZE))


def write_table(path: Path, count: int) -> None:
    """A csv of `count` rows."""
    with path.open("w") as file:
        file.write("image,text\n")
        for i in range(count):
            file.write(f'{i // 1000:05d}/{i:09d}.jpg,"a caption, the number {i}"\n')


def measured(name: str, make: Any, samples: int, size: Any) -> str:
    """A row of the table: builds the index, opens it twice, and reads a sample."""
    seconds = []
    for _ in range(2):
        begin = time.perf_counter()
        rows = make()
        seconds.append(time.perf_counter() - begin)
        assert len(rows) == samples and rows[samples - 1]["name"]
        del rows
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return f"| {name} | {samples:,} | {seconds[0]:.1f} | {seconds[1]:.2f} | {size() / samples:.1f} | {memory:.0f} |"


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=int, default=100_000)
    parser.add_argument("--folder", type=Path, required=True, help="for the data, which is deleted afterwards")
    arguments = parser.parse_args()
    folder, samples = arguments.folder, arguments.samples
    folder.mkdir(parents=True)
    os.environ["XDG_CACHE_HOME"] = str(folder / "cache")
    try:
        for k, first in enumerate(range(0, samples, PER_SHARD)):
            write_shard(folder / f"{k:05d}.tar", first, min(PER_SHARD, samples - first))
        index = folder / "index"
        shards = WebDatasetConfig(str(folder / "*.tar"), MEDIA, index=str(index))
        total = lambda where: sum(file.stat().st_size for file in where.rglob("*") if file.is_file())  # noqa: E731
        print(
            "| reader | samples | build, s | open, s | bytes a sample | peak memory, MiB |\n|---|---|---|---|---|---|"
        )
        print(measured("webdataset", lambda: WebDataset(shards), samples, lambda: total(index)), flush=True)
        write_table(folder / "table.csv", samples)
        table = ManifestConfig(str(folder / "table.csv"), MEDIA)
        print(measured("manifest, csv", lambda: Manifest(table), samples, lambda: total(folder / "cache")), flush=True)
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
