"""What files of docs/ were made of, so that a check finds those that are not of the present model and settings.

MADE in their folder holds the SHA-256 of the packaged model, the settings of the command, and the SHA-256 of each file.
"""

import hashlib
import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

from codi_jax.packaged import DEFAULT, FILES, MODELS

MADE = "made.json"


def weights() -> str:
    """The SHA-256 of the packaged model that generates and is drawn."""
    config = json.loads((MODELS[DEFAULT] / "config.json").read_text(encoding="utf-8"))
    return config["files"][FILES["model"]]


def write(folder: Path, settings: Mapping[str, Any], files: Iterable[Path], **others: Any) -> None:
    """Records files of a folder, after they have been written."""
    content = {
        "weights": weights(),
        "settings": settings,
        **others,
        "files": {path.name: _digest(path) for path in sorted(files)},
    }
    (folder / MADE).write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def stale(folder: Path, settings: Mapping[str, Any]) -> list[str]:
    """Why files of a folder are not those that the command would write now; nothing if they are.

    Samples also depend on the version of jax in their last bits, and on the code; neither is recorded.
    """
    try:
        made = json.loads((folder / MADE).read_text(encoding="utf-8"))
    except OSError:
        return [f"{folder / MADE} is missing"]
    reasons = []
    if made["weights"] != weights():
        reasons.append("they are of another model than the packaged one")
    if made["settings"] != json.loads(json.dumps(settings)):
        reasons.append("they were made with other settings")
    for path in sorted(folder.iterdir()):
        if path.name not in made["files"] and path.name != MADE:
            reasons.append(f"{path.name} is not recorded")
    for name, digest in made["files"].items():
        if not (folder / name).exists():
            reasons.append(f"{name} is missing")
        elif _digest(folder / name) != digest:
            reasons.append(f"{name} has been changed")
    return reasons


def report(reasons: Sequence[str], what: Path) -> NoReturn:
    """Prints what `--check` has found, and exits: with 1 if there are reasons why `what` is stale."""
    print(*reasons or [f"{what}: current"], sep="\n")
    sys.exit(1 if reasons else 0)


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
