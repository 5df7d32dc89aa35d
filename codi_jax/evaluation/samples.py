"""Samples as files: a folder, or a table, in the layouts that people have.

    image_0.png, audio_0.wav, text_0.txt      key "0": what `Output.save` and `codi-jax generate` write
    image/KEY.png, text/KEY.txt               a subfolder for each modality, KEY may hold further folders
    KEY.png, KEY.txt                          files of one stem are one sample; a flat folder, or with subfolders
    captions.csv (.tsv, .jsonl, .json, …)     a table with a column of file names, see `data.manifest`

A file is read when its sample is. Keys are in natural order: 2 before 10. A modality that some samples have, all must
have: metrics of pairs would otherwise leave samples out without a word. Videos without audio files have their
soundtracks as audio, if the first one has a soundtrack.
"""

import hashlib
import json
import os
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from codi_jax.config import ConfigError, from_dict
from codi_jax.data.decoded_source import KINDS, is_caption, pick_caption
from codi_jax.data.folder import KIND, read_sidecar
from codi_jax.media.files import MediaError, MediaFile
from codi_jax.media.metadata import probe

Content = str | MediaFile  # the path of a file, a part of a file, or a file in memory
_NAMED = re.compile(f"({'|'.join(KINDS)})_(.+)")


class Samples:
    """Samples by key.

    Attributes:
      path: the folder or table.
      keys: of the samples, in natural order.
      modalities: that every sample has, in the order text, image, audio, video.
    """

    def __init__(self, path: str, files: Mapping[str, Mapping[str, str]]):
        """Args:
        path: the folder.
        files: key -> modality -> path of the file.

        Raises:
          ConfigError: a sample lacks a modality that others have.
        """
        self.path, self._files = path, files
        self.keys = tuple(sorted(files, key=natural))
        counts = Counter(name for row in files.values() for name in row)
        self.modalities = tuple(name for name in KINDS if counts[name])
        for name in self.modalities:
            if lacking := [key for key in self.keys if name not in files[key]]:
                more = f" and {len(lacking) - 1} more have" if len(lacking) > 1 else " has"
                raise ConfigError(
                    f"{path}: sample {lacking[0]}{more} no {name}, but {counts[name]} of {len(self.keys)} samples do; "
                    f"add what is missing, or measure a folder without {name}"
                )

    def __len__(self) -> int:
        return len(self.keys)

    def content(self, modality: str, key: str) -> Content:
        """What a network reads: a caption, or a file.

        Raises:
          MediaError: a caption that cannot be read; files are not opened.
        """
        return self.caption(key) if is_caption(modality) else self._files[key][modality]

    def caption(self, key: str) -> str:
        """All of the text of a sample.

        Raises:
          MediaError: it cannot be read, or is empty or too long.
        """
        path = self._files[key]["text"]
        return _checked(path, str(read_sidecar(Path(path))))

    def captions(self, key: str) -> list[str]:
        """The captions of a sample, of which there may be several: the lines of its file.

        Raises:
          MediaError: they cannot be read, or there are none.
        """
        path = self._files[key]["text"]
        lines = [line for line in str(read_sidecar(Path(path))).splitlines() if line.strip()]
        return [_checked(path, line) for line in lines] or [_checked(path, "")]

    def identity(self, modality: str, keys: Sequence[str]) -> str:
        """A digest of the names, sizes and times of change of the files of these samples."""
        digest = hashlib.sha256()
        for key in keys:
            path = self._files[key][modality]
            try:
                status = os.stat(path)
            except OSError as error:
                raise MediaError("missing", f"{path}: cannot be read ({error.strerror})") from error
            digest.update(json.dumps([key, path, status.st_size, status.st_mtime_ns]).encode())
        return digest.hexdigest()


class TableSamples(Samples):
    """Samples whose files, or captions, a table names. Rows of the same files are captions of one sample."""

    def __init__(self, path: str, config: Mapping[str, object]):
        """Args:
        path: the table.
        config: of the source that reads it, from `data.recognition.recognize`.

        Raises:
          ConfigError: the table cannot be read, a row lacks a modality, or two rows are of one file but are no two
            captions of it.
        """
        from codi_jax.data.manifest import Manifest, ManifestConfig

        self._table = Manifest(from_dict(ManifestConfig, {k: v for k, v in config.items() if k != "name"}, "table"))
        self._rows: dict[str, list[int]] = {}
        files: dict[str, dict[str, str]] = {}
        for index in range(len(self._table)):
            record = self._table[index]
            row = {name: _name(record[name], index) for name in KINDS if record.get(name) is not None}
            media = [name for name in row if not is_caption(name)]
            key = os.path.splitext(os.path.relpath(row[media[0]], Path(path).parent))[0] if media else str(index)
            if key not in files:
                files[key], self._rows[key] = row, [index]
            elif any(map(is_caption, row)) and media and all(files[key].get(name) == row[name] for name in media):
                self._rows[key].append(index)
            else:
                first = self._rows[key][0]
                raise ConfigError(f"{path}: rows {first} and {index} are both of sample {key}; expected one")
        super().__init__(path, files)

    def content(self, modality: str, key: str) -> Content:
        return self.caption(key) if is_caption(modality) else self._table[self._rows[key][0]][modality]

    def caption(self, key: str) -> str:
        return self.captions(key)[0]

    def captions(self, key: str) -> list[str]:
        values = [self._table[row]["text"] for row in self._rows[key]]
        where = f"{self.path}: sample {key}"
        return [_checked(where, caption) for of in values for caption in (of if isinstance(of, list) else [of])]

    def identity(self, modality: str, keys: Sequence[str]) -> str:
        if not is_caption(modality):
            return super().identity(modality, keys)
        return hashlib.sha256(json.dumps([[key, self.captions(key)] for key in keys]).encode()).hexdigest()


def _name(value: object, index: int) -> str:
    """The path of a file; a caption has none."""
    return value.name if isinstance(value, MediaFile) else f"row {index}"


def _checked(where: str, caption: object) -> str:
    try:
        return pick_caption(caption, 0.0)
    except MediaError as error:
        raise MediaError(error.reason, f"{where}: {error}") from None


def natural(key: str) -> list[tuple[int, int, str]]:
    """What keys are ordered by: runs of digits as numbers."""
    parts = re.findall(r"[0-9]{1,18}|[^0-9]+", key)
    return [(0, int(part), part) if part.isdecimal() else (1, 0, part) for part in parts]


def open_samples(path: str) -> Samples:
    """The samples of a folder or a table.

    Raises:
      ConfigError: there is no such folder, it has no samples, it mixes layouts, two files are of one sample and
        modality, or a sample lacks a modality that others have.
    """
    path = os.path.expanduser(path)
    if os.path.isfile(path):
        from codi_jax.data.recognition import recognize

        found = recognize(path)
        if found.config["name"] != "manifest":
            raise ConfigError(f"{path}: expected a folder of samples or a table that names their files")
        return TableSamples(path, found.config)
    if not os.path.isdir(path):
        raise ConfigError(f"{path}: no such folder")
    others: Counter[str] = Counter()
    found = sorted(_files(path, others))
    if not found:
        listed = ", ".join(f"{suffix} {count}" for suffix, count in others.most_common(5)) or "no files at all"
        raise ConfigError(f"{path}: no texts (.txt), images, audio or videos in this folder ({listed})")
    key_of = _layout(path, found)
    rows: dict[str, dict[str, str]] = {}
    for relative, kind in found:
        row, file = rows.setdefault(key_of(relative), {}), os.path.join(path, relative)
        if kind in row:
            raise ConfigError(f"{row[kind]} and {file}: both are the {kind} of sample {key_of(relative)}; leave one")
        row[kind] = file
    return Samples(path, _with_soundtracks(rows))


def _with_soundtracks(rows: dict[str, dict[str, str]]) -> dict[str, dict[str, str]]:
    """The samples with their videos as audio, if no sample has audio and the first video has a soundtrack."""
    first = min((key for key, row in rows.items() if "video" in row), key=natural, default=None)
    if first is None or any("audio" in row for row in rows.values()):
        return rows
    try:
        heard = "samples a second" in probe(MediaFile(rows[first]["video"]))
    except MediaError:  # named when the video is read
        return rows
    return {key: {**row, "audio": row["video"]} if heard and "video" in row else row for key, row in rows.items()}


def _files(root: str, others: Counter[str]) -> Iterator[tuple[str, str]]:
    """The relative path and modality of every file of a folder; counts files of other kinds by suffix."""
    for folder, folders, names in os.walk(root):
        folders[:] = [name for name in folders if not name.startswith((".", "__"))]
        for name in names:
            stem, _, suffix = name.rpartition(".")
            kind = KIND.get(suffix.lower())
            if not stem or name.startswith("."):
                continue
            if kind is None or suffix.lower() == "json":  # a table, or somebody's settings
                others[suffix.lower()[:20]] += 1
            else:
                yield os.path.relpath(os.path.join(folder, name), root), kind


def _stem(relative: str) -> str:
    return os.path.splitext(relative)[0].replace(os.sep, "/")


def _layout(root: str, found: Sequence[tuple[str, str]]) -> Callable[[str], str]:
    """The function from a relative path to the key of its sample.

    Raises:
      ConfigError: only some files are in folders of modalities.
    """
    if all((match := _NAMED.fullmatch(_stem(path))) and match[1] == kind for path, kind in found):
        return lambda path: _stem(path).partition("_")[2]
    inside = [_folder(path) == kind for path, kind in found]
    if all(inside):
        return lambda path: _stem(path).partition("/")[2]
    if len({kind for (_, kind), within in zip(found, inside, strict=True) if within}) > 1:
        names = sorted({path.split(os.sep)[0] for (path, _), within in zip(found, inside, strict=True) if within})
        stray = next(path for (path, _), within in zip(found, inside, strict=True) if not within)
        raise ConfigError(f"{root}: {stray} is not in the folder of its modality, as files in {', '.join(names)} are")
    return _stem


def _folder(path: str) -> str:
    """The modality of the folder that a file is in; "" for another folder."""
    first, _, rest = path.partition(os.sep)
    return next((name for name in KINDS if rest and first.lower() in (name, f"{name}s")), "")
