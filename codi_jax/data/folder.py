"""The files of a folder as a table: files that differ by their suffix only are one row.

    cats/1.jpg, cats/1.txt      image: "cats/1.jpg"    text: what 1.txt says    key: "cats/1"    folder: "cats"

A column is a modality, or `json`, the contents of KEY.json; captions and json are read when the row is. `folder` is
the path of the file's folder. Hidden files and rows without media are left out.
"""

import json
import os
from collections import Counter
from collections.abc import Collection
from pathlib import Path
from typing import Any

from codi_jax.config import ConfigError
from codi_jax.data.decoded_source import SUFFIXES, is_caption
from codi_jax.media.files import MediaError

KIND = {suffix: name for name, suffixes in SUFFIXES.items() for suffix in suffixes}
MAX_SIDECAR = 1 << 20  # bytes of a caption's file
_JSON = "json"


class FolderTable:
    """The rows of a folder, sorted by their keys.

    Attributes:
      columns: of all rows.
      others: the number of files of other kinds, by suffix.

    Args:
      root: the folder.
      names: the columns to read; None for all.

    Raises:
      ConfigError: the folder does not exist.
    """

    def __init__(self, root: str, names: Collection[str] | None = None):
        if not os.path.isdir(root):
            raise ConfigError(f"{root}: no such folder")
        self._root, self.others = root, Counter[str]()
        self._rows = [row for row in self._scan() if any(_is_media(name) for name in row)]
        self._names = names
        self.columns = {name for row in self._rows for name in row}

    def _scan(self) -> list[dict[str, str]]:
        rows: dict[str, dict[str, str]] = {}
        for folder, folders, files in os.walk(self._root):
            folders[:] = sorted(name for name in folders if not name.startswith((".", "__")))
            parent = os.path.relpath(folder, self._root)
            for file in sorted(files):
                stem, _, suffix = file.rpartition(".")
                kind = _JSON if suffix.lower() == _JSON else KIND.get(suffix.lower())
                if not stem or kind is None:
                    if stem:
                        self.others[suffix.lower()[:20]] += 1
                    continue
                key = os.path.normpath(os.path.join(parent, stem))
                row = rows.setdefault(key, {"key": key, "folder": "" if parent == "." else parent})
                row.setdefault(kind, f"{key}.{suffix}")
        return [rows[key] for key in sorted(rows)]

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: int) -> dict[str, Any]:
        """One row. Raises MediaError if a caption or a json file that is asked for cannot be read."""
        row: dict[str, Any] = dict(self._rows[index])
        for name in row:
            if (name == _JSON or is_caption(name)) and (self._names is None or name in self._names):
                row[name] = read_sidecar(Path(self._root, row[name]))
        return row

    def values(self, name: str) -> list[Any]:
        """A column; of captions and json the paths."""
        return [row.get(name) for row in self._rows]


def _is_media(name: str) -> bool:
    return name in SUFFIXES and not is_caption(name)


def read_sidecar(path: Path) -> Any:
    """The text of a .txt file, or the contents of a .json file.

    Raises:
      MediaError: it cannot be read, is larger than `MAX_SIDECAR`, or is not UTF-8 or JSON.
    """
    try:
        with path.open("rb") as stream:
            data = stream.read(MAX_SIDECAR + 1)
        if len(data) > MAX_SIDECAR:
            raise MediaError("large", f"{path}: larger than {MAX_SIDECAR >> 20} MiB")
        text = data.decode("utf-8-sig")
        return json.loads(text) if path.suffix.lower() == f".{_JSON}" else text
    except OSError as error:
        raise MediaError("missing", f"{path}: cannot be read ({error.strerror})") from error
    except UnicodeDecodeError:
        raise MediaError("value", f"{path}: not UTF-8") from None
    except (ValueError, RecursionError) as error:
        if isinstance(error, MediaError):
            raise
        raise MediaError("value", f"{path}: not JSON") from None
