"""Converting and exporting files of the release's real sizes is bit-exact and takes little memory.

Slow and large: `CODI_BIG` names a folder with 36 GB of free space; by default it is the temporary folder of the test.
"""

import gzip
import json
import math
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
import zlib
from pathlib import Path

import numpy as np
import pytest

from codi_jax.interop import release
from codi_jax.interop.tensors import Item, open_state, write_pth

MANIFEST = Path(__file__).parents[1] / "fixtures" / "release_manifest.json.gz"
TIED = {"optimus.decoder.lm_head.weight": "optimus.decoder.transformer.wte.weight"}
CONFIG = "--config=codi:compat=release"


def numbers(key: str, shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    """Finite numbers of any exponent, a function of the key."""
    rng = np.random.default_rng(zlib.crc32(key.encode()))
    bits = np.frombuffer(rng.bytes(math.prod(shape) * dtype.itemsize), f"u{dtype.itemsize}")
    return (bits & ~bits.dtype.type(1 << (8 * dtype.itemsize - 2))).view(dtype).reshape(shape)


def make_files(folder: Path, dtype: np.dtype, names: tuple[str, ...]) -> list[Path]:
    manifest = json.loads(gzip.decompress(MANIFEST.read_bytes()))
    paths = []
    for name in names:
        modules = manifest["files"][name]
        shapes = {key: tuple(shape) for module in modules.values() for key, shape in module.items()}
        kinds = {key: np.dtype(np.int64) if key in manifest["integers"] else dtype for key in shapes}
        tied = {alias: key for alias, key in TIED.items() if alias in shapes}
        items = [
            Item(key, shape, kinds[key], lambda key=key, shape=shape, kind=kinds[key]: numbers(key, shape, kind))
            for key, shape in shapes.items()
            if key not in tied
        ]
        write_pth(folder / name, items, tied)
        paths.append(folder / name)
    return paths


def run(*arguments: str) -> tuple[str, int]:
    """The output of a command and the peak anonymous memory of its process."""
    command = [sys.executable, "-m", "codi_jax.cli", *arguments]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    peak = 0
    while process.poll() is None:
        status = Path(f"/proc/{process.pid}/status").read_text()
        peak = max([peak, *(int(line.split()[1]) << 10 for line in status.splitlines() if line.startswith("RssAnon"))])
        time.sleep(0.02)
    output = process.communicate()[0]
    assert process.returncode == 0, output
    return output, peak


TOGETHER = [("float16", tuple(release.FILES))]
ALONE = [("float32", (name,)) for name in release.FILES]


@pytest.mark.slow
@pytest.mark.parametrize("dtype, names", TOGETHER + ALONE, ids=lambda x: x if isinstance(x, str) else "+".join(x))
def test_convert_and_export_are_bit_exact_in_little_memory(dtype, names, tmp_path):
    folder = Path(tempfile.mkdtemp(prefix=dtype, dir=os.environ.get("CODI_BIG", tmp_path)))
    try:
        convert_and_export(dtype, names, folder)
    finally:
        shutil.rmtree(folder)


def convert_and_export(dtype, names, folder):
    files = make_files(folder, np.dtype(dtype), names)
    largest = max(value.nbytes for file in files for value in open_state(file).values())
    limit = 2 * largest + (1 << 30)
    output, peak = run("convert", CONFIG, f"--out={folder / 'weights'}", *map(str, files))
    print(output, f"\nconvert: peak of anonymous memory {peak >> 20} MiB, allowed {limit >> 20} MiB")
    assert peak <= limit
    output, peak = run("export", CONFIG, f"--config.weights={folder / 'weights'}", f"--out={folder / 'again'}")
    print(output, f"\nexport: peak of anonymous memory {peak >> 20} MiB, allowed {limit >> 20} MiB")
    assert peak <= limit
    ignored = {**release.RECOMPUTED, **release.UNREAD}
    compared = 0
    for file in files:
        before, after = open_state(file), open_state(folder / "again" / file.name)
        assert not after.keys() - before.keys()
        dropped = [key for key in before if key not in after]
        assert all(any(re.fullmatch(p, key) for p in ignored) for key in dropped)
        for key, value in after.items():
            assert before[key].dtype == value.dtype and before[key].shape == value.shape, key
            assert np.array_equal(before[key].view(np.uint8), value.view(np.uint8)), key
            compared += 1
    print(f"{compared} tensors are equal bit by bit")
