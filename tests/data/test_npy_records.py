"""Samples in structured arrays, on disk and on a real S3 server."""

import numpy as np
import pytest

from codi_jax import range_reads, storage
from codi_jax.config import ConfigError
from codi_jax.data import npy_records
from codi_jax.data.arrays import Arrays
from codi_jax.data.npy_records import NpyRecords
from codi_jax.data.source import read_batch
from tests import s3, toy

SAMPLES = {
    "image": {"mean": np.arange(84, dtype=np.float32).reshape(7, 3, 2, 2), "prompt": np.arange(7.0)[:, None]},
    "text": {"ids": np.arange(14, dtype=np.int32).reshape(7, 2)},
}


def cut(samples, start, end):
    return {m: {k: x[start:end] for k, x in fields.items()} for m, fields in samples.items()}


def write(folder):
    """Files of three, three and one samples, and one that was being written when its process was killed."""
    folder.mkdir(parents=True)
    for k in range(3):
        with storage.atomic_write(folder / f"{k:05d}.npy") as file:
            npy_records.write(file, cut(SAMPLES, 3 * k, 3 * k + 3))
    (folder / "00003.new.npy").write_bytes(b"torn")
    return folder


def damage_header(file):
    """Makes numpy raise tokenize.TokenError, which is no ValueError."""
    file.write_bytes(file.read_bytes().replace(b"{", b"\0(", 1))


@pytest.fixture(params=["local", "remote"])
def folder(request, tmp_path, monkeypatch):
    if request.param == "remote":
        return write(storage.as_path(s3.bucket(monkeypatch, "records")) / request.node.name.split("[")[0])
    return write(tmp_path / "records")


def test_samples_are_read_by_position(folder):
    records, arrays = NpyRecords(folder), Arrays(SAMPLES)
    assert len(records) == 7
    for indices in ([0, 1, 2, 3, 4, 5, 6], [6, 2, 2, 3], [5]):
        batch = read_batch(records, indices)
        assert toy.same(batch, read_batch(arrays, indices))
        assert {x.dtype for x in batch["text"].values()} == {np.dtype(np.int32)}
    assert toy.same(records[4], arrays[4]) and records[4]["text"]["ids"].shape == (2,)


def test_a_batch_of_a_store_is_one_round_of_requests(tmp_path, monkeypatch):
    folder, calls = write(storage.as_path(s3.bucket(monkeypatch, "rounds")) / "records"), []
    records, call = NpyRecords(folder), range_reads.retried
    monkeypatch.setattr(range_reads, "retried", lambda *a: (calls.append(a), call(*a))[1])
    assert toy.same(records.read([6, 0, 5]), read_batch(Arrays(SAMPLES), [6, 0, 5])) and len(calls) == 1


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda file: file.write_bytes(file.read_bytes()[:-1]), "00001.npy: not a whole number of samples of"),
        (lambda file: file.with_name("00000.npy").write_bytes(b"no array"), "00000.npy: not a .npy file of samples"),
        (lambda file: damage_header(file.with_name("00000.npy")), "00000.npy: not a .npy file of samples"),
        (lambda file: np.save(file.with_name("00000.npy"), np.zeros(3)), "00000.npy: not a .npy file of samples"),
        (lambda file: [x.unlink() for x in list(file.parent.iterdir())], "records: no files of samples"),
    ],
)
def test_damaged_files_are_refused(tmp_path, change, says):
    change(write(tmp_path / "records") / "00001.npy")
    with pytest.raises(ConfigError, match=f"{says}"):
        NpyRecords(tmp_path / "records")


def test_a_file_that_is_cut_or_deleted_during_a_run_is_one_line(tmp_path):
    file = write(tmp_path / "records") / "00001.npy"
    records = NpyRecords(tmp_path / "records")
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(ConfigError, match=r"00001\.npy: the file has been cut$"):
        records.read([0, 5])
    file.unlink()
    with pytest.raises(ConfigError, match=r"00001\.npy: the file cannot be read any more$"):
        records.read([0, 5])


def test_objects_are_refused(tmp_path):
    np.save(tmp_path / "0.npy", np.array([(1, {})], [("a", "i4"), ("b", "O")]), allow_pickle=True)
    with pytest.raises(ConfigError, match=r"not a \.npy file of samples"):
        NpyRecords(tmp_path)
