"""Plugins: modules of users that add entries to the registries when they are imported.

`config.plugins` names them. To import a module is to run its code. So the plugins of a config that the user wrote are
imported, while those named by something that may come from others, a workdir or a packaged model, have to be imported
by the user: by `--plugins` or `plugins=`, or by an import in the user's own code.
"""

import importlib
import os
import sys
from collections.abc import Iterable

from codi_jax.config import ConfigError


def _check_names(names: Iterable[str]) -> tuple[str, ...]:
    names = tuple(names)
    for name in names:
        if not all(part.isidentifier() for part in name.split(".")):
            raise ConfigError(f"plugins: {name!r} is not the name of a module, such as my_package.depth")
    return names


def import_plugins(names: Iterable[str]) -> None:
    """Imports plugins; modules are looked for on sys.path and then in the current directory.

    Raises:
      ConfigError: there is no such module. Errors inside of a module are not caught.
    """
    for name in _check_names(names):
        if _import(name):
            continue
        if (here := os.getcwd()) not in sys.path:  # a console script does not look there
            sys.path.append(here)
            importlib.invalidate_caches()
            if _import(name):
                continue
        raise ConfigError(f"plugins: no module {name!r}; it has to be in the current directory or on PYTHONPATH")


def _import(name: str) -> bool:
    try:
        importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is not None and f"{name}.".startswith(f"{error.name}."):
            return False  # the module or a package around it
        raise
    return True


def check_imported(names: Iterable[str], where: str) -> None:
    """Checks that the plugins which something loaded names have been imported.

    Args:
      names: the plugins.
      where: what names them, for the message.

    Raises:
      ConfigError: one has not been imported; the message says how to do it.
    """
    if missing := [name for name in _check_names(names) if name not in sys.modules]:
        modules = ",".join(missing)
        raise ConfigError(
            f"{where} needs the code of {modules}, which is imported only if you say so: --plugins={modules} "
            f"(in Python: load(…, plugins={missing!r}), or import it)"
        )
