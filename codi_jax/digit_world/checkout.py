"""The commit of the checkout of this package, for records of how numbers were made."""

import subprocess
from pathlib import Path


def _git(*arguments: str) -> str:
    command = ["git", "-C", str(Path(__file__).parent), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def commit() -> str:
    """Commit of the checkout which contains this package, with -dirty if it has uncommitted changes.

    Empty if there is none: without git, or if the package lies in a checkout of something else, as in the virtual
    environment of another project.
    """
    try:
        _git("ls-files", "--error-unmatch", "__init__.py")
        return _git("describe", "--always", "--dirty", "--abbrev=40", "--exclude=*")
    except (OSError, subprocess.CalledProcessError):
        return ""
