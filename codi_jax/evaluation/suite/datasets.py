"""Data sets of real samples, in the layouts they are distributed in.

    coco=annotations/captions_val2014.json    images beside or around it; or Karpathy's dataset_coco.json
    audiocaps=test.csv                        clips beside or around it, named after youtube_id and start_time
    msrvtt=test_videodatainfo.json            videos of the split "test", where the file has more than one
    ucf101=UCF-101/                           videos in folders of classes; or ucfTrainTestlist/testlist01.txt

Tables are read as training reads them (`data.recognition`): what a path holds is recognized, and rows of one file are
captions of one sample. Of a video, the middle frame stands for an image, and the soundtrack for audio.
"""

import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from codi_jax.config import ConfigError
from codi_jax.data.folder import KIND
from codi_jax.data.recognition import recognize
from codi_jax.data.tables import read_table
from codi_jax.evaluation.samples import Samples, TableSamples

DERIVED = ("image", "audio")  # from a video, where a data set has no files of them
TEST = "split=test"
_CLASS = "a video of {}"
_WORDS = re.compile(r"[A-Z]?[a-z0-9]+|[A-Z]+(?![a-z])")


class ClassSamples(Samples):
    """Videos in folders of classes, whose captions are the names of the classes."""

    def captions(self, key: str) -> list[str]:
        return [_CLASS.format(words(Path(self._files[key]["video"]).parent.name))]

    def caption(self, key: str) -> str:
        return self.captions(key)[0]

    def content(self, modality: str, key: str) -> Any:
        return self.caption(key) if modality == "text" else super().content(modality, key)


def words(name: str) -> str:
    """The words of the name of a class: "ApplyEyeMakeup" -> "apply eye makeup"."""
    return " ".join(_WORDS.findall(name)).lower()


def _table(path: str) -> Samples:
    """The samples of a table; of its split "test", if it says which row belongs to which."""
    config = _manifest(path)
    options = {name: config[name] for name in ("rows", "header") if name in config}
    if "split" in read_table([path], **options).columns:
        config["where"] = TEST
    return TableSamples(path, config)


def _manifest(path: str) -> dict[str, Any]:
    found = recognize(path)
    if found.config["name"] != "manifest" or os.path.isdir(path):
        raise ConfigError(f"{path}: {found.what}; expected a table that names media files and has their captions")
    return {name: value for name, value in found.config.items() if name != "name"}


def _classes(path: str) -> Samples:
    """The videos of a folder of classes, or those that a list names: lines CLASS/NAME.avi, of videos around it."""
    where = Path(path)
    if where.is_dir():
        names = [str(file.relative_to(where)) for file in sorted(where.glob("*/*")) if _is_video(file)]
    elif where.is_file():
        lines = where.read_text(encoding="utf-8", errors="replace").splitlines()
        names = [line.split()[0] for line in lines if line.strip()]
    else:
        raise ConfigError(f"{path}: no such file or folder")
    if not names:
        raise ConfigError(f"{path}: expected videos in folders of classes, such as ApplyEyeMakeup/v_….avi; found none")
    for name in names:
        if Path(name).is_absolute() or ".." in Path(name).parts or len(Path(name).parts) != 2:
            raise ConfigError(f"{path}: expected lines CLASS/NAME.avi, got {name!r:.80}")
    root = where if where.is_dir() else _root_of(where, names)
    rows = {os.path.splitext(name)[0]: {"text": name, "video": str(root / name)} for name in names}
    return ClassSamples(path, rows)


def _root_of(listed: Path, names: list[str]) -> Path:
    """The folder that has the first video of a list: that of the list, the one around it, or one beside it."""
    around = (listed.parent, listed.parent.parent)
    for folder in (*around, *(path for place in around for path in sorted(place.glob("*/")))):
        if (folder / names[0]).is_file():
            return folder
    raise ConfigError(f"{listed}: no folder around it has {names[0]}")


def _is_video(file: Path) -> bool:
    return KIND.get(file.suffix[1:].lower()) == "video"


DATASETS: Mapping[str, Callable[[str], Samples]] = {
    "coco": _table,
    "audiocaps": _table,
    "msrvtt": _table,
    "ucf101": _classes,
}


def parse_datasets(text: str) -> dict[str, str]:
    """Name -> path of NAME=PATH,NAME=PATH.

    Raises:
      ConfigError: another form, an unknown name, or one that is given twice.
    """
    out: dict[str, str] = {}
    for part in filter(None, map(str.strip, text.split(","))):
        name, equals, path = (x.strip() for x in part.partition("="))
        if not equals or not path:
            raise ConfigError(f"--datasets: expected NAME=PATH, such as coco=captions_val2014.json, got {part!r}")
        if name not in DATASETS:
            raise ConfigError(f"--datasets: no data set {name!r}; there are {', '.join(DATASETS)}")
        if name in out:
            raise ConfigError(f"--datasets: {name} is given twice")
        out[name] = os.path.expanduser(path)
    if not out:
        raise ConfigError(f"--datasets: expected NAME=PATH of some of {', '.join(DATASETS)}")
    return out


def open_dataset(name: str, path: str) -> Samples:
    """The real samples of a data set.

    Raises:
      ConfigError: there is nothing at the path, or it has another layout.
    """
    try:
        return DATASETS[name](path)
    except ConfigError as error:
        raise ConfigError(f"--datasets: {name}: {error}") from None


def modalities_of(samples: Samples) -> tuple[str, ...]:
    """The modalities that samples have, and those that their videos stand for."""
    derived = DERIVED if "video" in samples.modalities else ()
    return tuple(dict.fromkeys((*samples.modalities, *derived)))
