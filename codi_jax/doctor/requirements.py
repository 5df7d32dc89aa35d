"""Versions of packages, and the bounds of codi_jax and of the extras of what it asks for."""

import importlib.metadata
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import codi_jax
from codi_jax.doctor.facts import Dependency, Installation

if TYPE_CHECKING:
    from packaging.requirements import Requirement

NAME = "codi_jax"
PLUGINS = ("jax-cuda12-plugin", "jax-cuda12-pjrt", "jax-cuda13-plugin", "jax-cuda13-pjrt")
SHOWN = (
    *("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "grain", "transformers", "ml_collections"),
    *("tensorflow-datasets", "numpy", "libtpu", *PLUGINS),
)

Installed = Callable[[str], str | None]  # name of a distribution -> its version
Asks = Callable[[str], Sequence[str]]  # name of a distribution -> what its metadata ask for


def installed_version(name: str) -> str | None:
    """The version of an installed distribution; None if it is missing or its metadata are damaged."""
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def installed_requirements(name: str) -> Sequence[str]:
    """What the metadata of an installed distribution ask for; nothing if it is missing."""
    try:
        return importlib.metadata.requires(name) or ()
    except importlib.metadata.PackageNotFoundError:
        return ()


def _applying(asked: Iterable[str], extra: str) -> Iterator["Requirement"]:
    """The requirements that an extra adds to those without one; for an empty extra, the latter."""
    from packaging.requirements import Requirement

    for requirement in map(Requirement, asked):
        marker = requirement.marker
        always = marker is None or marker.evaluate({"extra": ""})
        if always == (not extra) and (always or (marker is not None and marker.evaluate({"extra": extra}))):
            yield requirement


def _with_extras(asked: Iterable[str], extra: str, asks: Asks, seen: set[tuple[str, str]]) -> Iterator["Requirement"]:
    """The requirements of an extra, and of the extras that these name in turn, as `jax[cuda13]`."""
    for requirement in _applying(asked, extra):
        yield requirement
        for inner in sorted(requirement.extras):
            if (requirement.name, inner) not in seen:
                seen.add((requirement.name, inner))
                yield from _with_extras(asks(requirement.name), inner, asks, seen)


def dependencies(
    asked: Sequence[str],
    extras: Sequence[str],
    installed: Installed = installed_version,
    asks: Asks = installed_requirements,
) -> tuple[Dependency, ...]:
    """The packages that requirements name: first those always needed, then those of each extra.

    Args:
      asked: requirements as in metadata, `av<19,>=17; extra == "media"`.
      extras: names of the extras.
      installed, asks: versions and requirements of installed distributions.
    """
    found = []
    for extra in ("", *extras):
        for requirement in _with_extras(asked, extra, asks, set()):
            version = installed(requirement.name)
            fits = version is not None and requirement.specifier.contains(version, prereleases=True)
            bounds = ",".join(sorted(map(str, requirement.specifier), key=lambda bound: bound[0] == "<"))
            found.append(Dependency(requirement.name, bounds, version, fits, extra))
    return tuple(dict.fromkeys(found))


def read_installation() -> Installation:
    """The installation of codi_jax. Without the package `packaging`, that is its only dependency that is named."""
    folder = str(Path(codi_jax.__file__).parent)
    versions = {name: installed_version(name) for name in SHOWN}
    found: tuple[Dependency, ...] = ()
    if (installed := installed_version(NAME)) is not None:
        try:
            extras = importlib.metadata.metadata(NAME).get_all("Provides-Extra") or ()
            found = dependencies(installed_requirements(NAME), extras)
        except ModuleNotFoundError:
            found = (Dependency("packaging", "", None, False),)
    return Installation(codi_jax.__version__, installed, folder, found, versions)
