"""Files in a local directory or an object store, `gs://…` or `s3://…`.

Code that reads or writes a workdir gets its paths from `as_path`: a pathlib path for a local file, an etils path (which
uses gcsfs or s3fs) for a remote one; both have the same methods. An object store supports neither append nor rename; an
upload replaces one object atomically. Hence, in a store,

    a file              is written locally and uploaded when it is complete           `atomic_write`, `write_text`
    a growing file      is kept locally and uploaded as a whole from time to time     `UploadBuffer`
    a directory         is complete once its index, which is uploaded last, exists    see checkpoint.index

Credentials are those of the libraries: Google's application default credentials for gs://; Amazon's environment
variables, files and roles for s3://. AWS_ENDPOINT_URL_S3 or AWS_ENDPOINT_URL names a server other than Amazon's.
"""

import base64
import contextlib
import dataclasses
import errno
import importlib.util
import json
import os
import re
import shutil
import tempfile
import uuid
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from etils import epath

from codi_jax.config import ConfigError, first_line

if TYPE_CHECKING:
    RemotePath = Path  # etils' class is no subclass of pathlib's, but has its methods
else:
    RemotePath = epath.Path

_FULL = {errno.ENOSPC, errno.EDQUOT}
_DENIED = {errno.EROFS, errno.EACCES, errno.EPERM}
_TRANSIENT = {
    *(errno.EIO, errno.ESTALE, errno.EREMOTEIO, errno.ETIMEDOUT, errno.EHOSTDOWN),
    *(errno.EHOSTUNREACH, errno.ENETUNREACH, errno.ENETDOWN),
}
_NEEDS = {"gs": "gcsfs", "s3": "s3fs"}


def is_remote(where: str | os.PathLike) -> bool:
    """Whether a path is in an object store."""
    return "://" in os.fspath(where)


def as_path(where: str | os.PathLike) -> Path:
    """The path object of a local or remote path; `~` at the beginning of a local one is the user's home directory.

    Raises:
      ConfigError: the scheme is not supported, or its library is not installed.
    """
    text = os.fspath(where)
    if not is_remote(text):
        return Path(os.path.expanduser(text))
    scheme = text.split("://")[0]
    if scheme not in _NEEDS:
        raise ConfigError(f"{text}: expected a local path, gs://… or s3://…, not {scheme}://")
    if importlib.util.find_spec(_NEEDS[scheme]) is None:
        raise ConfigError(f"{text} needs {_NEEDS[scheme]}: pip install 'codi_jax[{scheme}]'")
    _configure()
    return RemotePath(text)


def _configure() -> None:
    """Configures etils and fsspec before their first use."""
    from fsspec.config import conf

    os.environ.setdefault("EPATH_USE_TF", "false")  # etils would otherwise use TensorFlow, if it is installed
    for protocol in ("gs", "gcs", "s3"):  # a cached listing would hide what other processes have written since
        conf.setdefault(protocol, {}).setdefault("use_listings_cache", False)


def check_access(where: str | os.PathLike) -> Path:
    """Like `as_path`, but also checks that the bucket of a remote path can be accessed.

    Raises:
      ConfigError: see `as_path`; or the bucket does not exist or denies access.
    """
    path = as_path(where)
    if is_remote(path):
        bucket = "/".join(str(path).split("/")[:3])
        try:
            exists = epath.Path(bucket).exists()
        except Exception as error:  # the exception class depends on the library
            raise ConfigError(f"{bucket} cannot be reached: {first_line(error)}") from error
        if not exists:
            raise ConfigError(f"{bucket}: no such bucket, or its contents may not be listed")
    return path


def check_output(where: str | os.PathLike) -> Path:
    """Like `check_access`, but also checks that files can be written to a local directory, which may not exist yet.

    Nothing is created. It is called before a long computation whose results are to be written there.

    Raises:
      ConfigError: see `check_access`; or the path is a file, or the directory may not be written.
    """
    path = check_access(where)
    if not is_remote(path):
        existing = Path(os.path.abspath(path))
        while not os.path.exists(existing) and existing != existing.parent:
            existing = existing.parent
        if not existing.is_dir():
            raise ConfigError(f"{path}: {existing} is a file; choose a directory")
        if not os.access(existing, os.W_OK | os.X_OK):
            raise ConfigError(f"{path}: {existing} may not be written; choose a directory that you may read and write")
    return path


def cache_root() -> Path:
    """The folder of this package in the user's cache, $XDG_CACHE_HOME/codi_jax or ~/.cache/codi_jax."""
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "codi_jax"


def cache_folder(name: str) -> Path | None:
    """The folder NAME in the user's cache, see `cache_root`; None if it cannot be made or written."""
    try:
        folder = cache_root() / name
        folder.mkdir(parents=True, exist_ok=True)
    except (OSError, RuntimeError):  # not writable, or no home directory
        return None
    return folder if os.access(folder, os.W_OK | os.X_OK) else None


def explain(error: BaseException, where: str | os.PathLike | None = None) -> str | None:
    """One line for the user if a disk is full or a file may not be read or written; None for any other error.

    Args:
      error: the exception; its causes (`__cause__`) are examined too.
      where: the file or directory that was written, for errors without a file name (such as those of an open file).
    """
    cause: BaseException | None = error
    while cause is not None:
        code = re.search(r"os_error_code='(\d+)'", str(cause))  # of tensorstore
        number = int(code[1]) if code else getattr(cause, "errno", None)  # of OSError and PyAV's errors
        if number in _FULL | _DENIED:
            advice = "free some space and run the same command again; saved files are intact"
            if number in _DENIED:
                advice = "choose a directory that you may read and write"
            return f"{getattr(cause, 'filename', None) or where or 'the disk'}: {os.strerror(number)}: {advice}"
        cause = cause.__cause__
    return None


class StoreError(ConfigError):
    """An object store that does not answer; the message is one line."""


def read_json(path: Path | epath.Path, advice: str = "") -> dict[str, Any]:
    """The object in a JSON file of a workdir.

    Args:
      path: the file.
      advice: the end of the message, such as what the file may be deleted for.

    Raises:
      OSError: it cannot be read.
      ConfigError: it is damaged.
    """
    try:
        tree = json.loads(path.read_text())
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{path}: not JSON ({error}){advice}") from error
    if not isinstance(tree, dict):
        raise ConfigError(f"{path}: not a JSON object{advice}")
    return tree


def is_transient(error: BaseException) -> bool:
    """Whether an error, or a cause of it, is of a network or a store that may answer later."""
    cause: BaseException | None = error
    while cause is not None:
        code = str(getattr(cause, "code", ""))  # of HTTP, in gcsfs
        if (
            isinstance(cause, (StoreError, ConnectionError, TimeoutError))
            or getattr(cause, "errno", None) in _TRANSIENT
        ):
            return True
        if code in ("408", "429") or re.fullmatch(r"5\d\d", code):
            return True
        # Classes of botocore and aiohttp, whose import is not worthwhile here; absl statuses of tensorstore and jax.
        if {kind.__name__ for kind in type(cause).__mro__} & {"HTTPClientError", "ClientConnectionError"}:
            return True
        if re.search(r"\b(UNAVAILABLE|DEADLINE_EXCEEDED):", str(cause)):
            return True
        cause = cause.__cause__
    return False


@dataclasses.dataclass(frozen=True)
class Listed:
    """A file in a listing: its size in bytes, and what an object store says of its content, if anything.

    `etag` differs if the content differs. It usually is the MD5, in hexadecimal digits; not of objects that were
    uploaded in parts, nor of encrypted ones.
    """

    bytes: int
    etag: str = ""


def listing(directory: Path | epath.Path) -> dict[str, Listed]:
    """Every file below a directory, by relative path; one listing call for a remote directory."""
    if is_remote(directory):
        import fsspec

        system, key = fsspec.core.url_to_fs(str(directory))
        found = system.find(key, detail=True)
        return {name.removeprefix(f"{key}/"): Listed(info["size"], _etag(info)) for name, info in found.items()}
    local = (path for path in Path(directory).rglob("*") if path.is_file())
    return {path.relative_to(directory).as_posix(): Listed(path.stat().st_size) for path in local}


def _etag(info: Mapping[str, Any]) -> str:
    """The etag of a listed object: S3's own; of Google Cloud Storage, whose own changes with metadata, a checksum."""
    if "md5Hash" in info:
        return base64.b64decode(info["md5Hash"]).hex()
    return info["crc32c"] if "crc32c" in info else info.get("ETag", "").strip('"')


def files(directory: Path | epath.Path) -> dict[str, int]:
    """The size in bytes of every file below a directory, by relative path."""
    return {name: file.bytes for name, file in listing(directory).items()}


def upload(file: Path, path: Path) -> None:
    """Uploads a local file to a remote path, atomically."""
    import fsspec

    system, key = fsspec.core.url_to_fs(str(path))
    system.put_file(str(file), key)


@contextlib.contextmanager
def atomic_write(path: Path, shared: bool = False) -> Iterator[Path]:
    """Yields a temporary local path to write to; it replaces `path` when the block ends without an exception.

    Args:
      path: the file.
      shared: whether other processes, of any host, or threads may write it at the same time, as a file of a cache.
    """
    if is_remote(path):
        with tempfile.TemporaryDirectory(prefix="codi-jax-") as folder:
            temporary = Path(folder) / path.name
            yield temporary
            upload(temporary, path)
    else:
        writer = uuid.uuid4().hex if shared else ""  # processes of two hosts may have the same id
        temporary = path.with_name(f"{path.stem}.new{writer}{path.suffix}")
        try:
            yield temporary
            os.replace(temporary, path)
        except BaseException:
            with contextlib.suppress(OSError):
                temporary.unlink()  # an incomplete file is useless, and the disk may be full
            raise


def write_text(path: Path, text: str, shared: bool = False) -> None:
    """Writes a text file atomically, see `atomic_write`."""
    with atomic_write(path, shared) as temporary:
        temporary.write_text(text, encoding="utf-8")


def copy(source: Path, target: Path, last: str = "") -> None:
    """Copies a file, or a directory recursively; a file called `last`, which marks a complete copy, is copied last.

    Raises:
      FileNotFoundError: `source` does not exist.
    """
    if source.is_dir():
        target.mkdir(parents=True, exist_ok=True)
        for entry in sorted(source.iterdir(), key=lambda entry: entry.name == last):
            copy(entry, target / entry.name, last)
        return
    with source.open("rb") as stream, atomic_write(target) as temporary, temporary.open("wb") as out:
        shutil.copyfileobj(stream, out, 1 << 20)


class UploadBuffer:
    """A local folder for growing files of a directory: the directory itself if it is local.

    Attributes:
      folder: the folder to write to. If the directory is remote, each `send` uploads the present files as a whole,
        since a store does not support append.
    """

    def __init__(self, directory: Path, fetch: Sequence[str] = ()):
        """Args:
        directory: created if absent.
        fetch: names of files to download first, if they exist.
        """
        self._directory, self._temporary = directory, None
        self.folder = directory
        directory.mkdir(parents=True, exist_ok=True)
        if is_remote(directory):
            self._temporary = tempfile.TemporaryDirectory(prefix="codi-jax-")
            self.folder = Path(self._temporary.name)
            for name in fetch:
                if (directory / name).exists():
                    copy(directory / name, self.folder / name)

    def send(self) -> None:
        """Uploads all files as they are now, if the directory is remote."""
        if self._temporary is not None:
            for file in sorted(self.folder.iterdir()):
                upload(file, self._directory / file.name)

    def close(self) -> None:
        """Sends a last time and removes the temporary folder."""
        if self._temporary is not None:
            self.send()
            self._temporary.cleanup()
            self._temporary = None
