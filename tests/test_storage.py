"""Local and remote files; the remote ones on a real S3 server."""

import errno
import hashlib
import importlib.util
import os
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from codi_jax import storage
from codi_jax.config import ConfigError
from codi_jax.train.metrics import MetricWriter
from tests import s3


@pytest.fixture(scope="module")
def bucket():
    with pytest.MonkeyPatch.context() as patch:
        yield s3.bucket(patch, "files")


@pytest.fixture(params=["local", "remote"])
def folder(request, tmp_path):
    """A local directory and a remote one."""
    if request.param == "local":
        return tmp_path / "folder"
    return storage.as_path(request.getfixturevalue("bucket")) / request.node.name.split("[")[0]


def test_a_file_is_written_atomically(folder):
    folder.mkdir(parents=True, exist_ok=True)
    storage.write_text(folder / "a.json", "one")
    storage.write_text(folder / "a.json", "two, ÄÖ")
    with pytest.raises(ZeroDivisionError), storage.atomic_write(folder / "a.json") as temporary:
        temporary.write_text("three")
        raise ZeroDivisionError
    assert (folder / "a.json").read_text() == "two, ÄÖ"
    assert list(storage.files(folder)) == ["a.json"]


def test_a_file_of_a_cache_is_written_by_several_at_once(tmp_path):
    path = tmp_path / "a.json"
    started = threading.Barrier(4)

    def write(text):
        with storage.atomic_write(path, shared=True) as temporary:
            temporary.write_text(text)
            started.wait(10)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(write, "abcd"))
    assert path.read_text() in "abcd" and os.listdir(tmp_path) == ["a.json"]


def test_a_full_disk_leaves_the_old_file(tmp_path):
    path = tmp_path / "a.json"
    storage.write_text(path, "one")
    with pytest.raises(OSError) as caught, storage.atomic_write(path) as temporary:
        temporary.symlink_to("/dev/full")  # every write fails
        temporary.write_text("two")
    assert path.read_text() == "one" and os.listdir(tmp_path) == ["a.json"]
    assert storage.explain(caught.value, "out") == (
        "out: No space left on device: free some space and run the same command again; saved files are intact"
    )


@pytest.mark.parametrize("number", [errno.EROFS, errno.EACCES, errno.EPERM])
def test_a_directory_that_may_not_be_written_is_explained(number):
    error = RuntimeError("the message of a library")
    error.__cause__ = OSError(number, os.strerror(number), "d/x")
    line = f"d/x: {os.strerror(number)}: choose a directory that you may read and write"
    assert storage.explain(error, "d") == line


def test_other_errors_are_not_explained():
    assert storage.explain(FileNotFoundError(errno.ENOENT, "absent", "d/x")) is None
    assert storage.explain(ValueError("no space left on device")) is None


def test_a_directory_is_copied_recursively(folder, tmp_path):
    for name in ("a", "inside/b", "inside/deeper/c"):
        (tmp_path / "source" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "source" / name).write_bytes(name.encode() * 3)
    sent = {"a": 3, "inside/b": 24, "inside/deeper/c": 45}
    storage.copy(tmp_path / "source", folder / "copy")
    storage.copy(folder / "copy", tmp_path / "back")
    assert storage.files(folder / "copy") == storage.files(tmp_path / "back") == sent
    assert list((folder / "copy").glob("*/b")) == [folder / "copy" / "inside" / "b"]
    assert (tmp_path / "back/inside/deeper/c").read_bytes() == b"inside/deeper/c" * 3


def test_etags_of_listings():
    assert storage._etag({"ETag": '"0cc175b9c0f1b6a831c399e269772661"'}) == "0cc175b9c0f1b6a831c399e269772661"
    google = {"md5Hash": "DMF1ucDxtqgxw5niaXcmYQ==", "crc32c": "AAAAAA==", "etag": "CJ"}
    assert storage._etag(google) == hashlib.md5(b"a").hexdigest() == "0cc175b9c0f1b6a831c399e269772661"
    assert storage._etag({"crc32c": "AAAAAA==", "etag": "CJ"}) == "AAAAAA=="  # an object composed of others has no MD5
    assert storage._etag({}) == ""


def test_metrics_in_a_store_are_complete_after_an_interruption(bucket):
    folder = storage.as_path(bucket) / "stage"
    killed = MetricWriter(folder)
    killed.write(0, {"loss": 3})
    killed.send()
    killed.write(1, {"loss": 2})  # killed before it sends again
    with MetricWriter(folder, resumed_step=1) as writer:
        for step in (1, 2):
            writer.write(step, {"loss": 10 * step})
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    assert lines == ['{"step": 0, "loss": 3.0}', '{"step": 1, "loss": 10.0}', '{"step": 2, "loss": 20.0}']
    assert len([name for name in storage.files(folder) if name.startswith("events.out.tfevents")]) == 2
    killed.close()


def test_inaccessible_paths_are_one_line(bucket, monkeypatch, tmp_path):
    assert str(storage.check_access(f"{bucket}/new/run")) == f"{bucket}/new/run"
    assert storage.check_access(tmp_path / "new") == tmp_path / "new"
    with pytest.raises(ConfigError, match=r"^s3://absent-bucket: no such bucket, or its contents may not be listed$"):
        storage.check_access("s3://absent-bucket/run")
    with pytest.raises(ConfigError, match=r"^ftp://x/run: expected a local path, gs://… or s3://…, not ftp://$"):
        storage.as_path("ftp://x/run")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"^gs://b/run needs gcsfs: pip install 'codi_jax\[gs\]'$"):
        storage.as_path("gs://b/run")


def test_an_output_directory_is_checked_without_being_made(tmp_path, monkeypatch):
    assert storage.check_output(tmp_path / "a" / "b") == tmp_path / "a" / "b" and not (tmp_path / "a").exists()
    monkeypatch.setenv("HOME", str(tmp_path))
    assert storage.check_output("~/a") == storage.as_path("~/a") == tmp_path / "a"
    (tmp_path / "file").write_text("")
    for where in ("file", "file/d"):
        with pytest.raises(
            ConfigError, match=f"^{tmp_path / where}: {tmp_path / 'file'} is a file; choose a directory$"
        ):
            storage.check_output(tmp_path / where)
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    with pytest.raises(ConfigError, match=f"{tmp_path} may not be written; choose a directory that you may read and"):
        storage.check_output(tmp_path / "a")


class HttpError(Exception):
    """As gcsfs has it."""

    def __init__(self, code):
        super().__init__("error")
        self.code = code


@pytest.mark.parametrize(
    ("error", "transient"),
    [
        (storage.StoreError("gs://a/b cannot be read"), True),
        (TimeoutError(), True),
        (ConnectionRefusedError(), True),
        (OSError(errno.EIO, "Input/output error"), True),
        (OSError(errno.ENOSPC, "No space left on device"), False),
        (FileNotFoundError(errno.ENOENT, "No such file"), False),
        (ValueError("UNAVAILABLE: s3 write: HTTP response code: 503"), True),
        (ValueError("the word UNAVAILABLE in a text"), False),
        (HttpError(503), True),
        (HttpError("429"), True),
        (HttpError(403), False),
    ],
)
def test_errors_that_may_pass_are_distinguished(error, transient):
    assert storage.is_transient(error) is transient
    wrapped = RuntimeError("cannot save")
    wrapped.__cause__ = error
    assert storage.is_transient(wrapped) is transient
