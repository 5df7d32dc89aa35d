"""The global batches of every source: stopped at any step and resumed on 1, 2 and 4 processes, they are the same."""

import io
import json

import jax
import numpy as np
import pytest
import tensorflow_datasets as tfds
from PIL import Image

from codi_jax.data import arrayrecord
from codi_jax.data.pipeline import Batches
from codi_jax.data.source import SOURCES, make_source
from tests.data.test_tfds import COLUMNS, TinyCaptions
from tests.data.test_webdataset import shard

SIZE, BATCH, STEPS, STOPS = 9, 4, 6, (0, 1, 4)  # the steps span several epochs
MEDIA = {"modalities": ("text", "image"), "size": 8, "crop": "random", "truncate": 0.5}
FAULTS = {"max_bad_fraction": 0.5}


def png(shade):
    file = io.BytesIO()
    Image.new("RGB", (12, 10), (shade, shade, shade)).save(file, "png")
    return file.getvalue()


def record(i):
    """A caption and an image; that of one sample is damaged."""
    return f"the caption of number {i}", b"no image" if i == 5 else png(20 * i)


def manifest(folder, suffix):
    for i in range(SIZE):
        (folder / f"{i}.png").write_bytes(record(i)[1])
    rows = [{"text": record(i)[0], "image": f"{i}.png"} for i in range(SIZE)]
    tables = {"jsonl": "\n".join(map(json.dumps, rows)), "json": json.dumps(rows)}
    tables["csv"] = "text,image\n" + "".join(f"{row['text']},{row['image']}\n" for row in rows)
    (folder / f"x.{suffix}").write_text(tables[suffix])
    return {"name": "manifest", "path": str(folder / f"x.{suffix}"), "media": MEDIA, "faults": FAULTS}


def webdataset(folder):
    for k, numbers in enumerate((range(4), range(4, SIZE))):
        members = {}
        for i in numbers:
            members |= {f"{i}.txt": record(i)[0].encode(), f"{i}.png": record(i)[1]}
        shard(folder / f"{k}.tar", members)
    return {"name": "webdataset", "shards": str(folder / "*.tar"), "media": MEDIA, "faults": FAULTS}


def records(folder, **config):
    rows = [dict(zip(("text", "image"), record(i), strict=True)) for i in range(SIZE)]
    rows = rows if config else [{"z": np.arange(3.0) + i} for i in range(SIZE)]
    arrayrecord.write(folder / "x.arrayrecord", rows)
    return {"name": "arrayrecord", "path": str(folder / "x.arrayrecord"), **config}


def arrays(folder):
    np.savez(folder / "x.npz", z=np.arange(SIZE * 3).reshape(SIZE, 3))
    return {"name": "arrays", "path": str(folder / "x.npz")}


def prepared(folder):
    tfds.disable_progress_bar()
    TinyCaptions(data_dir=folder, file_format="array_record").download_and_prepare()
    return {"name": "tfds", "dataset": "tiny_captions", "data_dir": str(folder), "columns": COLUMNS}


def mixture(folder, whole):
    parts = {"tars": {**webdataset(folder), "weight": 2.0}, "rows": manifest(folder, "csv")}
    return {"name": "mixture", "parts": parts, "whole_batches": whole}


MAKERS = {
    "digit_world": lambda folder: {"name": "digit_world", "size": SIZE},
    "arrays": arrays,
    "tfds": prepared,
    "manifest csv": lambda folder: manifest(folder, "csv"),
    "manifest jsonl": lambda folder: manifest(folder, "jsonl"),
    "manifest json": lambda folder: manifest(folder, "json"),
    "arrayrecord": records,
    "arrayrecord media": lambda folder: records(folder, media=MEDIA, faults=FAULTS),
    "webdataset": webdataset,
    "mixture": lambda folder: mixture(folder, False),
    "mixture of batches": lambda folder: mixture(folder, True),
}


def test_every_source_is_tested():
    assert {name.split()[0] for name in MAKERS} == set(SOURCES)


SLOW = ("manifest csv", "manifest json", "arrayrecord")  # another form of one that is tested always


@pytest.mark.parametrize("name", [pytest.param(n, marks=[pytest.mark.slow] * (n in SLOW)) for n in MAKERS])
def test_batches_are_the_same_after_a_stop_and_on_any_number_of_processes(name, tmp_path):
    config = MAKERS[name](tmp_path)

    def global_batches(hosts, start):
        """The global batches from a step on, of processes that have just started."""
        states = {"next_index": start * BATCH}
        parts = [Batches(make_source(config), BATCH, 3, rows=r, threads=1) for r in np.split(np.arange(BATCH), hosts)]
        for part in parts:
            part.set_state(states)
        steps = [[next(part) for part in parts] for _ in range(start, STEPS)]
        for part in parts:
            assert part.get_state() == {"next_index": STEPS * BATCH}
            part.close()
        return [jax.tree.map(lambda *rows: np.concatenate(rows), *step) for step in steps]

    reference = global_batches(1, 0)
    assert len(reference) == STEPS
    for hosts in (1, 2, 4):
        for stop in STOPS:
            for expected, got in zip(reference[stop:], global_batches(hosts, stop), strict=True):
                assert jax.tree.all(jax.tree.map(np.array_equal, expected, got))
