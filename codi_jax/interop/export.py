"""Components of ours to the files of the CoDi release, tensor by tensor.

What the release's code makes by itself (`release.RECOMPUTED`) and what nothing reads (`release.UNREAD`) is not written:
that code fills in the former, and loads files that lack the latter.
"""

import dataclasses
from collections.abc import Mapping
from functools import partial
from pathlib import Path

import numpy as np

from codi_jax.checkpoint import CheckpointReader
from codi_jax.codi import CoDi
from codi_jax.config import ConfigError
from codi_jax.interop import release
from codi_jax.interop.names import Layout, param_sites
from codi_jax.interop.tensors import Item, write_pth
from codi_jax.parallel.tables import size, table


@dataclasses.dataclass(frozen=True)
class _Source:
    """Where a tensor of the release comes from: a leaf of a component."""

    component: str
    leaves: CheckpointReader
    path: str
    layout: Layout
    tied: bool

    @property
    def like(self) -> np.ndarray:
        """Shape and dtype there, at no cost."""
        leaf = self.leaves.shapes[self.path]
        return self.layout.to_theirs(np.broadcast_to(np.zeros((), leaf.dtype), leaf.shape))

    def read(self) -> np.ndarray:
        return np.ascontiguousarray(self.layout.to_theirs(self.leaves.read(self.path)))


def _sources(codi: CoDi, directories: Mapping[str, Path]) -> dict[str, list[_Source]]:
    """Key of the release -> the leaves that have it; more than one where picture and clip do not share a component."""
    out: dict[str, list[_Source]] = {}
    for component, part in release.parts(codi).items():
        if component not in directories:
            continue
        leaves, root = CheckpointReader(str(directories[component])), f"params/{component}/"
        _check_constants(codi, component, leaves)
        mine = [path.removeprefix(root) for path in leaves.shapes if path.startswith(root)]
        for site in param_sites(mine, part.rules):
            source = _Source(component, leaves, root + site.path, site.layout, site.tied)
            out.setdefault(part.prefix + site.key, []).append(source)
    return out


def _check_constants(codi: CoDi, component: str, leaves: CheckpointReader) -> None:
    """The release's code scales latents by fixed numbers and centres nothing."""
    for name, fixed in release.constants(codi, component).items():
        path = f"constants/{component}/{name}"
        if path in leaves.shapes and not np.allclose(leaves.read(path), fixed, rtol=1e-5, atol=0):
            raise ConfigError(
                f"{component}: its {name} is not the release's ({np.unique(fixed)}), whose code would use that; what "
                "was trained with statistics of its own cannot be given to it"
            )


def _read(key: str, sources: list[_Source]) -> np.ndarray:
    first, *others = sources
    array = first.read()
    for other in others:
        if not np.array_equal(array, other.read()):
            raise ConfigError(
                f"{first.component} and {other.component} differ in {key}, of which the release has but one; share the "
                "component (compat=release), or export a model of either alone"
            )
    return array


def export(codi: CoDi, directories: Mapping[str, Path], out: Path) -> str:
    """Writes what there is of the release's four files.

    Args:
      codi: the model.
      directories: component -> where it is, as `save_params` wrote it.
      out: directory for the files.

    Returns:
      A table of what was written.

    Raises:
      ConfigError: no component of the release, or two that have to be one differ.
      CheckpointError: a component cannot be read.
    """
    sources = _sources(codi, directories)
    if not sources:
        raise ConfigError("nothing to export: there are no weights; see --config.weights and --workdir")
    Path(out).mkdir(parents=True, exist_ok=True)
    rows = [("file", "tensors", "bytes", "components")]
    for name, roots in release.FILES.items():
        mine = {key: found for key, found in sources.items() if key.startswith(roots)}
        if not mine:
            continue
        by_path = {found[0].path: key for key, found in mine.items() if not found[0].tied}
        ties = {key: by_path[found[0].path] for key, found in mine.items() if found[0].tied}
        items = [
            Item(key, found[0].like.shape, found[0].like.dtype, partial(_read, key, found))
            for key, found in mine.items()
            if key not in ties
        ]
        write_pth(Path(out) / name, items, ties)
        components = dict.fromkeys(source.component for found in mine.values() for source in found)
        rows.append(
            (name, str(len(mine)), size(sum(found[0].like.nbytes for found in mine.values())), " ".join(components))
        )
    return table(rows, right=(1, 2))
