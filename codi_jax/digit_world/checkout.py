"""The commit of this package, for records of how numbers were made."""

import subprocess
from pathlib import Path

PACKAGE = Path(__file__).parents[1]


def _git(*arguments: str) -> str:
    command = ["git", "-C", str(PACKAGE), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def commit() -> str:
    """The last commit that changed this package, with -dirty if it has uncommitted changes.

    Commits of documents, tests and results alone leave it as it is, since they change no number. Empty if there is
    none: without git, or if the package lies in a checkout of something else, as in the virtual environment of another
    project.
    """
    try:
        _git("ls-files", "--error-unmatch", "__init__.py")
        last = _git("log", "-1", "--format=%H", "--", ".")
        return last + ("-dirty" if _git("status", "--porcelain", "--untracked-files=no", "--", ".") else "")
    except (OSError, subprocess.CalledProcessError):
        return ""
