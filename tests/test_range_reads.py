"""Ranges of a local file, and of one on a real S3 server whose client fails at times."""

import pytest
import s3fs

from codi_jax import range_reads, storage
from codi_jax.range_reads import open_stream, read_ranges, stored_files
from codi_jax.storage import StoreError
from tests import s3

CONTENT = bytes(range(256)) * 2048  # 512 KiB
RANGES = [(300_000, 300_010), (0, 4), (8, 9), (524_280, 524_300), (7, 7), (600_000, 600_002), (2, 300)]
EXPECTED = [CONTENT[start:end] for start, end in RANGES]


def at(path, ranges):
    return [(path, start, end) for start, end in ranges]


@pytest.fixture(scope="module")
def bucket():
    with pytest.MonkeyPatch.context() as patch:
        address = s3.bucket(patch, "ranges")
        for name in ("a.bin", "b.bin"):
            storage.as_path(f"{address}/{name}").write_bytes(CONTENT)
        yield address


@pytest.fixture
def requests(monkeypatch):
    """The ranges of all requests; `fails` is called with each before it is sent."""

    class Log(list):
        def fails(self, start):
            pass

    log, cat_file = Log(), s3fs.S3FileSystem._cat_file

    async def logged(self, path, *, start, end):
        log.append((start, end))
        log.fails(start)
        return await cat_file(self, path, start=start, end=end)

    monkeypatch.setattr(s3fs.S3FileSystem, "_cat_file", logged)
    monkeypatch.setattr(range_reads, "FIRST_WAIT", 1e-3)
    return log


def test_a_local_file(tmp_path):
    (tmp_path / "a.bin").write_bytes(CONTENT)
    assert read_ranges(at(str(tmp_path / "a.bin"), RANGES)) == EXPECTED
    with open_stream(str(tmp_path / "a.bin")) as stream:
        assert stream.read() == CONTENT
    with pytest.raises(FileNotFoundError):
        read_ranges(at(str(tmp_path / "b.bin"), RANGES))


def test_near_ranges_of_a_stored_file_are_one_request(bucket, requests, monkeypatch):
    assert read_ranges(at(f"{bucket}/a.bin", RANGES)) == EXPECTED
    assert sorted(requests) == [(0, 300), (300_000, 300_010), (524_280, 524_300), (600_000, 600_002)]
    del requests[:]
    monkeypatch.setattr(range_reads, "MAX_REQUEST", 8)
    assert read_ranges(at(f"{bucket}/a.bin", RANGES)) == EXPECTED
    assert (2, 300) in requests and (0, 9) not in requests
    assert read_ranges([]) == [] and read_ranges(at(f"{bucket}/a.bin", [(5, 5)])) == [b""]


def test_ranges_of_several_files(bucket, requests):
    assert read_ranges([(f"{bucket}/{name}.bin", start, start + 2) for name in "ba" for start in (8, 2, 9)]) == [
        CONTENT[start : start + 2] for start in (8, 2, 9, 8, 2, 9)
    ]
    assert requests == [(2, 11)] * 2


def test_what_fails_for_a_time_is_read_again(bucket, requests):
    failed = []

    def fails(start):
        if start >= 300_000 and failed.count(start) < range_reads.ATTEMPTS - 1:
            failed.append(start)
            raise [ConnectionResetError("reset"), TimeoutError(), OSError(5, "SlowDown")][len(failed) % 3]

    requests.fails = fails
    assert read_ranges(at(f"{bucket}/a.bin", RANGES[:2])) == EXPECTED[:2]
    assert requests.count((0, 4)) == 1 and requests.count((300_000, 300_010)) == range_reads.ATTEMPTS


def test_a_store_that_does_not_answer_is_one_line(bucket, requests):
    def fails(start):
        raise OSError(5, "the server is busy\nand says more")

    requests.fails = fails
    with pytest.raises(StoreError, match=r"^s3://ranges/a.bin cannot be read: .*busy \(7 attempts\); run the same"):
        read_ranges(at(f"{bucket}/a.bin", [(0, 4)]))
    assert len(requests) == range_reads.ATTEMPTS


def test_a_file_that_does_not_exist_is_asked_for_once(bucket, requests):
    with pytest.raises(FileNotFoundError):
        read_ranges(at(f"{bucket}/absent.bin", [(0, 4)]))
    assert len(requests) == 1


def test_a_stream_of_a_stored_file(bucket, requests, monkeypatch):
    failed = []

    def fails(start):
        if start not in failed:
            failed.append(start)
            raise ConnectionResetError("reset")

    requests.fails = fails
    monkeypatch.setattr(range_reads, "BLOCK", 100_000)
    with open_stream(f"{bucket}/a.bin") as stream:
        assert stream.seek(0, 2) == len(CONTENT) and stream.seek(10) == 10
        assert stream.read(20) == CONTENT[10:30]
        assert stream.seek(500_000) and stream.read() == CONTENT[500_000:]
    with pytest.raises(FileNotFoundError):
        open_stream(f"{bucket}/absent.bin")


def test_sizes_and_etags_of_stored_files(bucket):
    (info,) = stored_files([f"{bucket}/b.bin"]).values()
    assert info["size"] == len(CONTENT) and info["ETag"]
    with pytest.raises(FileNotFoundError, match=r"absent\.bin"):
        stored_files([f"{bucket}/a.bin", f"{bucket}/absent.bin"])
