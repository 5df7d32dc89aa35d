"""Reads damaged files of every kind as a run does: the result is a sample of the right shape or an error of one line.

    python -m benchmarks.fuzz --mutants=10000 --json=fuzz.json          all readers; goes on where it was stopped
    python -m benchmarks.fuzz --reader=mp4 --only=123                   one damaged file again, with its traceback
    python -m benchmarks.fuzz --json=fuzz.json --mutants=0 --docs       writes the table into docs/data.md

Each is a valid file, damaged in one to four ways from a seed of its reader and number. Audio and video are read in turn
in its process and behind the worker (`data.decoder_pool`). Each reader runs in a process of its own with bounded
memory: a crash, and a file that takes longer than `TIMEOUT` seconds, are counted, and the next number goes on.
"""

import argparse
import functools
import json
import os
import random
import resource
import select
import subprocess
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

os.environ.setdefault("JAX_PLATFORMS", "cpu")

import numpy as np

from benchmarks import fuzz_files
from codi_jax import storage
from codi_jax.config import ConfigError
from codi_jax.data import arrayrecord, npy_records
from codi_jax.data.arrayrecord import ArrayRecords
from codi_jax.data.decoded_source import MediaConfig, decode_record
from codi_jax.data.decoder_pool import DecoderPool
from codi_jax.data.manifest import Manifest, ManifestConfig
from codi_jax.data.npy_records import NpyRecords
from codi_jax.data.source import make_source
from codi_jax.data.webdataset import WebDataset, WebDatasetConfig
from codi_jax.media import files
from codi_jax.media.files import MediaError, MediaFile

MEDIA = MediaConfig(("image",), size=16, frames=4, rate=4.0, samples=4000, sample_rate=8000)
PAIRS = MediaConfig(("text", "image"), size=16)
TIMEOUT = 60.0  # seconds of one damaged file
MEMORY = 8 << 30  # of a reader's process
FAULTS = ("traceback", "several lines", "wrong shape", "crash", "hang")
PAGE = Path(__file__).parents[1] / "docs" / "data.md"
MARKS = ("<!-- fuzz -->", "<!-- end of fuzz -->")

Way = Callable[[Path, bytes, bool], None]  # a folder, the damaged file, and whether to read it behind the worker


class WrongShapeError(Exception):
    """A reader returned a value of another shape."""


def _check(value: np.ndarray, shape: tuple[int, ...]) -> None:
    if value.shape != shape or not np.isfinite(value).all():
        raise WrongShapeError(f"{value.dtype} {value.shape}, not {shape}")


@functools.cache
def _worker() -> DecoderPool:
    return DecoderPool(20.0, 1)


def _image(name: str, folder: Path, data: bytes, behind: bool) -> None:
    del folder, behind
    _check(decode_record({"image": MediaFile(name, data)}, MEDIA, (0,))["image"], (16, 16, 3))


def _audio(name: str, folder: Path, data: bytes, behind: bool, start: float = 0.0) -> None:
    del folder
    file, reader = MediaFile(name, data, start, 0.25 if start else None), _worker() if behind else files
    _check(np.asarray(reader.seconds(file)), ())
    _check(reader.read_audio(file, MEDIA.samples, MEDIA.sample_rate), (MEDIA.samples,))


def _video(name: str, folder: Path, data: bytes, behind: bool) -> None:
    reader = _worker() if behind else files
    for start in (0.0, 0.5):
        frames = reader.read_video(MediaFile(name, data, start), MEDIA.frames, MEDIA.rate, MEDIA.size)
        _check(frames, (MEDIA.frames, 16, 16, 3))
    try:
        _audio(name, folder, data, behind, 0.5)
    except MediaError as error:
        if error.reason != "kind":  # the valid file may have no audio
            raise


def _each(records: Any) -> None:
    """Reads all records; raises the error of the last bad one."""
    last: MediaError | None = None
    for index in range(len(records)):
        try:
            _check(decode_record(records[index], PAIRS, (0,))["image"], (16, 16, 3))
        except MediaError as error:
            last = error
    if last is not None:
        raise last


def _tar(name: str, folder: Path, data: bytes, behind: bool, index: str = "") -> None:
    del name, behind
    (folder / "x.tar").write_bytes(data)
    _each(WebDataset(WebDatasetConfig(str(folder / "x.tar"), PAIRS, index=index)))


def _text(name: str, folder: Path, data: bytes, behind: bool) -> None:
    shard = fuzz_files.tar({"1.png": fuzz_files.IMAGES["png"](), f"1.{name}": data}, 0)
    _tar(name, folder, shard, behind)


def _table(name: str, folder: Path, data: bytes, behind: bool) -> None:
    del behind
    path = folder / name
    path.write_bytes(data)
    for i in range(5):
        if not (folder / f"{i}.png").exists():
            (folder / f"{i}.png").write_bytes(fuzz_files.IMAGES["png"]())
    _each(Manifest(ManifestConfig(str(path), PAIRS, columns={"start": "start", "duration": "duration"})))


def _shard_index(name: str, folder: Path, data: bytes, behind: bool) -> None:
    """Replaces the index file of a shard by a damaged one."""
    _valid_index(folder).write_bytes(data)
    del name, behind
    _each(WebDataset(WebDatasetConfig(str(folder / "valid.tar"), PAIRS, index=str(folder / "index"))))


def _valid_index(folder: Path) -> Path:
    shard, index = folder / "valid.tar", folder / "index"
    if not shard.exists():
        shard.write_bytes(fuzz_files.TARS["pax.tar"]())
        WebDataset(WebDatasetConfig(str(shard), PAIRS, index=str(index)))
    (file,) = index.iterdir()
    file.unlink()  # an earlier one is mapped into memory
    return file


def _arrayrecord(name: str, folder: Path, data: bytes, behind: bool) -> None:
    del name, behind
    (folder / "x.arrayrecord").write_bytes(data)
    config = {"name": "arrayrecord", "path": str(folder / "x.arrayrecord"), "media": {**_fields(PAIRS)}}
    source: Any = make_source(config)
    _each(source.source.records)


def _msgpack(name: str, folder: Path, data: bytes, behind: bool) -> None:
    """A whole ArrayRecord file with a damaged record."""
    del name, behind
    from array_record.python.array_record_module import ArrayRecordWriter

    writer = ArrayRecordWriter(str(folder / "x.arrayrecord"), "group_size:1")
    writer.write(data)
    writer.close()
    ArrayRecords(str(folder / "x.arrayrecord"))[0]


def _npz(name: str, folder: Path, data: bytes, behind: bool) -> None:
    del name, behind
    (folder / "x.npz").write_bytes(data)
    source = make_source({"name": "arrays", "path": str(folder / "x.npz")})
    for index in range(min(len(source), 10)):
        source[index]


def _npy(name: str, folder: Path, data: bytes, behind: bool) -> None:
    del name, behind
    (folder / "npy").mkdir(exist_ok=True)
    (folder / "npy" / "0.npy").write_bytes(data)
    records = NpyRecords(folder / "npy")
    for index in range(min(len(records), 10)):
        records[index]


def _fields(media: MediaConfig) -> dict[str, Any]:
    return {"modalities": media.modalities, "size": media.size}


def _record() -> dict[str, Any]:
    return {"text": ["a caption", "ü"], "image": fuzz_files.IMAGES["png"](), "z": {"mean": np.arange(6.0)}}


def _written(write: Callable[[Path], None]) -> Callable[[], bytes]:
    def make() -> bytes:
        with tempfile.TemporaryDirectory() as folder:
            write(Path(folder) / "x.npz")
            return (Path(folder) / "x.npz").read_bytes()

    return make


def _index_file() -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        shard, index = Path(folder, "valid.tar"), Path(folder, "index")
        shard.write_bytes(fuzz_files.TARS["pax.tar"]())
        WebDataset(WebDatasetConfig(str(shard), PAIRS, index=str(index)))
        (file,) = index.iterdir()
        return file.read_bytes()


def _serialized() -> bytes:
    from flax import serialization

    return serialization.msgpack_serialize(_record())


def readers() -> dict[str, tuple[Callable[[], bytes], Way]]:
    """Name of a reader -> a function that makes a valid file, and the way to read one."""
    kinds = ((fuzz_files.IMAGES, _image), (fuzz_files.AUDIO, _audio), (fuzz_files.VIDEO, _video))
    kinds += ((fuzz_files.TEXT, _text), (fuzz_files.TARS, _tar), (fuzz_files.TABLES, _table))
    out = {name: (make, functools.partial(way, name)) for made, way in kinds for name, make in made.items()}
    arrays = {"z": np.arange(12).reshape(3, 4), "text": np.array(["a", "ü", "c"])}
    made = {
        "shard index": (_index_file, _shard_index),
        "arrayrecord": (_written(lambda path: arrayrecord.write(path, [_record()] * 3)), _arrayrecord),
        "msgpack": (_serialized, _msgpack),
        "npz": (_written(lambda path: np.savez(path, **arrays)), _npz),
        "npy records": (_npy_file, _npy),
    }
    return out | {name: (make, functools.partial(way, name)) for name, (make, way) in made.items()}


def _npy_file() -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        npy_records.write(Path(folder, "0.npy"), {"z": {"mean": np.arange(12.0).reshape(3, 4)}})
        return Path(folder, "0.npy").read_bytes()


def outcome(way: Way, folder: Path, data: bytes, behind: bool) -> str:
    """`read`, the reason of a refused sample, `no source`, or one of `FAULTS`."""
    try:
        way(folder, data, behind)
    except ConfigError as error:
        if "\n" in str(error).strip():
            return "several lines"
        return error.reason if isinstance(error, MediaError) else "no source"
    except WrongShapeError:
        return "wrong shape"
    except Exception:
        traceback.print_exc()
        return "traceback"
    return "read"


def mutant(name: str, valid: bytes, seed: int, number: int) -> bytes:
    """The damaged file of a number; number 0 is the valid one."""
    return fuzz_files.damaged(valid, random.Random(f"{seed}/{name}/{number}")) if number else valid


def serve(name: str, seed: int, start: int, end: int) -> None:
    """The process of a reader: prints each number, and then its outcome."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, resource.getrlimit(resource.RLIMIT_AS)[1]))
    make, way = readers()[name]
    valid, out = make(), os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # keep anything else that is printed out of the outcomes
    with tempfile.TemporaryDirectory(prefix="codi-jax-fuzz-") as folder:
        os.environ["XDG_CACHE_HOME"] = folder
        for number in range(start, end):
            print(number, file=out, flush=True)
            said = outcome(way, Path(folder), mutant(name, valid, seed, number), bool(number % 2))
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
            print(json.dumps([said, peak]), file=out, flush=True)
    os._exit(0)


def run(name: str, seed: int, state: dict[str, Any], end: int, save: Callable[[], None]) -> None:
    """Reads damaged files until `state["done"]` is `end`, and counts their outcomes in `state`."""
    while state["done"] < end:
        command = [sys.executable, "-m", "benchmarks.fuzz", f"--serve={name}", f"--seed={seed}"]
        command += [f"--start={state['done']}", f"--mutants={end}"]
        process = subprocess.Popen(command, stdout=subprocess.PIPE)
        assert process.stdout is not None
        number, begin, ended = -1, 0.0, False
        lines = _lines(process.stdout.fileno())
        for line in lines:
            if line is None:
                process.kill()
                _count(state, "hang", number, TIMEOUT)
                ended = True
                break
            if line.isdigit():
                number, begin = int(line), time.perf_counter()
                continue
            said, peak = json.loads(line)
            if number == 0 and said != "read":
                sys.exit(f"the valid file of {name}: {said}")
            _count(state, said, number, time.perf_counter() - begin)
            state["peak_mib"] = max(state["peak_mib"], peak)
            if state["done"] % 500 == 0:
                save()
        process.stdout.close()
        if process.wait() and not ended:
            if number < 0:
                sys.exit(f"the valid file of {name} cannot be made")
            _count(state, "crash", number, 0.0)
        save()


def _lines(descriptor: int) -> Any:
    """The lines that a process writes; None if it writes none for `TIMEOUT` seconds."""
    rest = b""
    while True:
        if not select.select([descriptor], [], [], TIMEOUT)[0]:
            yield None
            return
        data = os.read(descriptor, 1 << 16)
        if not data:
            return
        *whole, rest = (rest + data).split(b"\n")
        yield from (line.decode() for line in whole)


def _count(state: dict[str, Any], said: str, number: int, seconds: float) -> None:
    state["done"] = number + 1
    state["outcomes"][said] = state["outcomes"].get(said, 0) + 1
    state["slowest_s"] = round(max(state["slowest_s"], seconds), 3)
    if said in FAULTS:
        state["faults"].append([said, number])


def rows(states: Mapping[str, Any]) -> str:
    """The table of all readers."""
    lines = ["| reader | files | read | refused | faults | slowest, s | peak, MiB |", "|---|---|---|---|---|---|---|"]
    for name, state in states.items():
        counts = Counter(state["outcomes"])
        read, faults = counts["read"], sum(counts[fault] for fault in FAULTS)
        refused = counts.total() - read - faults
        numbers = (counts.total(), read, refused, faults)
        cells = [name, *(f"{n:,}" for n in numbers), f"{state['slowest_s']:.2f}", str(state["peak_mib"])]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> int:
    """Returns 1 if there are faults."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mutants", type=int, default=10_000, help="damaged files of each reader (10000)")
    parser.add_argument("--reader", default="", help="names between commas; all by default")
    parser.add_argument("--seed", type=int, default=0, help="seed of the damage (0)")
    parser.add_argument("--json", type=Path, default=Path("fuzz.json"), help="counts and progress (fuzz.json)")
    parser.add_argument("--docs", action="store_true", help="write the table into docs/data.md")
    parser.add_argument("--only", type=int, help="read the file of this number of one reader, in this process")
    parser.add_argument("--serve", help=argparse.SUPPRESS)
    parser.add_argument("--start", type=int, default=0, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.serve:
        serve(options.serve, options.seed, options.start, options.mutants)
    known = readers()
    names = options.reader.split(",") if options.reader else list(known)
    if unknown := [name for name in names if name not in known]:
        parser.error(f"no reader {', '.join(unknown)}; there are {', '.join(known)}")
    if options.only is not None:
        make, way = known[names[0]]
        with tempfile.TemporaryDirectory() as folder:
            data = mutant(names[0], make(), options.seed, options.only)
            print(outcome(way, Path(folder), data, bool(options.only % 2)))
        return 0
    content: dict[str, Any] = {"seed": options.seed, "readers": {}}
    if options.json.exists():
        content = json.loads(options.json.read_text())
        if content["seed"] != options.seed:
            parser.error(f"{options.json} has counts of seed {content['seed']}; name another file")

    def save() -> None:
        storage.write_text(options.json, json.dumps(content, indent=1) + "\n")

    empty = {"done": 0, "outcomes": {}, "slowest_s": 0.0, "peak_mib": 0, "faults": []}
    for name in names if options.mutants else ():
        state = content["readers"].setdefault(name, json.loads(json.dumps(empty)))
        run(name, options.seed, state, options.mutants, save)
        print(rows({name: state}).splitlines()[-1], *(state["faults"][:3]), flush=True)
    states = {name: content["readers"][name] for name in known if name in content["readers"]}
    print(rows(states))
    if options.docs:
        before, _, rest = PAGE.read_text().partition(MARKS[0])
        PAGE.write_text(f"{before}{MARKS[0]}\n\n{rows(states)}\n\n{MARKS[1]}{rest.partition(MARKS[1])[2]}")
    return int(any(state["faults"] for state in states.values()))


if __name__ == "__main__":
    sys.exit(main())
