"""Where files are kept: a directory of this machine, or one of an object store, `gs://…` or `s3://…`.

Whatever reads or writes a workdir takes its paths from `as_path`: pathlib's here, etils' (by gcsfs or s3fs) there, with
the same methods. A store knows neither appending nor renaming; it puts one object in place at a time, whole or not at
all. So there

    a file             is made here and sent when it is complete                    `atomic_write`, `write_text`
    a growing file     is kept here and sent as a whole, now and then               `UploadBuffer`
    a directory        counts once the object that says so, sent last, is there     see checkpoint.index

Credentials are those of the libraries (for gs:// Google's application default ones; for s3:// Amazon's variables, files
and roles). Another server than Amazon's is named by AWS_ENDPOINT_URL_S3 or AWS_ENDPOINT_URL.
"""

import contextlib
import errno
import importlib.util
import os
import re
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from etils import epath

from codi_jax.config import ConfigError

_FULL = {errno.ENOSPC, errno.EDQUOT}
_DENIED = {errno.EROFS, errno.EACCES, errno.EPERM}
_NEEDS = {"gs": "gcsfs", "s3": "s3fs"}


def is_remote(where: str | os.PathLike) -> bool:
    """Whether a path is of an object store."""
    return "://" in os.fspath(where)


def as_path(where: str | os.PathLike) -> Path:
    """The path of a file or directory, wherever it is.

    Raises:
      ConfigError: a store of a kind that is not known, or whose library is not installed.
    """
    text = os.fspath(where)
    if not is_remote(text):
        return Path(text)
    scheme = text.split("://")[0]
    if scheme not in _NEEDS:
        raise ConfigError(f"{text}: a path of this machine, gs://… or s3://…, not {scheme}://")
    if importlib.util.find_spec(_NEEDS[scheme]) is None:
        raise ConfigError(f"{text} needs {_NEEDS[scheme]}: pip install 'codi_jax[{scheme}]'")
    _configure()
    return epath.Path(text)


def _configure() -> None:
    """Settles, before their first use, how etils and fsspec look at a store."""
    import fsspec

    os.environ.setdefault("EPATH_USE_TF", "false")  # were TensorFlow installed, etils would ask it
    for protocol in ("gs", "gcs", "s3"):  # a remembered listing does not show what other processes have written since
        fsspec.config.conf.setdefault(protocol, {}).setdefault("use_listings_cache", False)


def check_access(where: str | os.PathLike) -> Path:
    """`as_path`, once a store has answered.

    Raises:
      ConfigError: as `as_path`; or there is no such bucket, or it does not let us in.
    """
    path = as_path(where)
    if is_remote(path):
        bucket = "/".join(str(path).split("/")[:3])
        try:
            found = epath.Path(bucket).exists()
        except Exception as error:  # each library has a kind of its own for what can go wrong here
            raise ConfigError(f"{bucket} cannot be reached: {str(error).splitlines()[0]}") from error
        if not found:
            raise ConfigError(f"{bucket}: no such bucket, or its contents may not be listed")
    return path


def explain(error: BaseException, where: str | os.PathLike | None = None) -> str | None:
    """One line for the user about a disk that is full, or that may not be read or written; None for any other error.

    Args:
      error: as raised. What it was raised from is looked at too.
      where: what was being written, for errors that name no file (Python's own do not, once a file is open).
    """
    while error is not None:
        told = re.search(r"os_error_code='(\d+)'", str(error))  # by tensorstore
        number = int(told[1]) if told else getattr(error, "errno", None)  # of OSError, and of PyAV's errors
        if number in _FULL | _DENIED:
            advice = "make room and run the same command again; what was saved before is whole"
            if number in _DENIED:
                advice = "name a directory that you may read and write"
            return f"{getattr(error, 'filename', None) or where or 'the disk'}: {os.strerror(number)}: {advice}"
        error = error.__cause__
    return None


def files(directory: Path) -> dict[str, int]:
    """Bytes of every file in a directory and below it, by its path from there; a store is asked once for all."""
    if is_remote(directory):
        import fsspec

        system, key = fsspec.core.url_to_fs(str(directory))
        return {name.removeprefix(f"{key}/"): about["size"] for name, about in system.find(key, detail=True).items()}
    found = (path for path in Path(directory).rglob("*") if path.is_file())
    return {path.relative_to(directory).as_posix(): path.stat().st_size for path in found}


def send(file: Path, path: Path) -> None:
    """Brings a file of this machine into a store, whole or not at all."""
    import fsspec

    system, key = fsspec.core.url_to_fs(str(path))
    system.put_file(str(file), key)


@contextlib.contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """A path of this machine at which to write a file; it takes the place of `path` when the block has ended well."""
    if is_remote(path):
        with tempfile.TemporaryDirectory(prefix="codi-jax-") as folder:
            fresh = Path(folder) / path.name
            yield fresh
            send(fresh, path)
    else:
        fresh = path.with_name(f"{path.stem}.new{path.suffix}")
        try:
            yield fresh
            os.replace(fresh, path)
        except BaseException:
            with contextlib.suppress(OSError):
                fresh.unlink()  # half a file is of no use, and the disk may be full
            raise


def write_text(path: Path, text: str) -> None:
    """Writes a file of text, whole or not at all."""
    with atomic_write(path) as fresh:
        fresh.write_text(text, encoding="utf-8")


def copy(source: Path, target: Path, last: str = "") -> None:
    """Copies a file, or a directory with all in it; the file named `last`, which says that it counts, comes last.

    Raises:
      FileNotFoundError: there is no `source`.
    """
    if source.is_dir():
        target.mkdir(parents=True, exist_ok=True)
        for entry in sorted(source.iterdir(), key=lambda entry: entry.name == last):
            copy(entry, target / entry.name, last)
        return
    with source.open("rb") as stream, atomic_write(target) as fresh, fresh.open("wb") as out:
        shutil.copyfileobj(stream, out, 1 << 20)


class UploadBuffer:
    """A folder of this machine whose files stand in a directory: that directory itself, unless it is of a store.

    Attributes:
      folder: where to write. In a store nothing can be appended to, so its files are sent as they are by each `send`.
    """

    def __init__(self, directory: Path, fetch: Sequence[str] = ()):
        """Args:
        directory: created if absent.
        fetch: names of files to begin with, where they exist.
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
        """Brings all files as they are now into the store, if the directory is of one."""
        if self._temporary is not None:
            for file in sorted(self.folder.iterdir()):
                send(file, self._directory / file.name)

    def close(self) -> None:
        """Sends a last time, and clears away what was only kept here."""
        if self._temporary is not None:
            self.send()
            self._temporary.cleanup()
            self._temporary = None
