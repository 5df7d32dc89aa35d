"""Exports components to the files of the CoDi release, tensor by tensor.

Buffers that the release's code computes (`release.RECOMPUTED`) and weights that it does not use (`release.UNREAD`) are
not written; the release's code also loads files without them.
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
from codi_jax.interop.names import AxisLayout, param_sites
from codi_jax.interop.tensors import Item, write_pth
from codi_jax.parallel.tables import size, table


@dataclasses.dataclass(frozen=True)
class _Source:
    """The leaf of a component from which a tensor of the release is read."""

    component: str
    leaves: CheckpointReader
    path: str
    layout: AxisLayout
    tied: bool

    @property
    def like(self) -> np.ndarray:
        """An array with the shape and dtype of the tensor, without reading it."""
        leaf = self.leaves.shapes[self.path]
        return self.layout.to_theirs(np.broadcast_to(np.zeros((), leaf.dtype), leaf.shape))

    def read(self) -> np.ndarray:
        return np.ascontiguousarray(self.layout.to_theirs(self.leaves.read(self.path)))


def _sources(codi: CoDi, directories: Mapping[str, Path]) -> dict[str, list[_Source]]:
    """Key of the release -> its leaves; more than one where image and video do not share a component."""
    out: dict[str, list[_Source]] = {}
    for component, part in release.parts(codi).items():
        if component not in directories:
            continue
        leaves, root = CheckpointReader(str(directories[component])), f"params/{component}/"
        _check_constants(codi, component, leaves)
        names = [path.removeprefix(root) for path in leaves.shapes if path.startswith(root)]
        for site in param_sites(names, part.rules):
            source = _Source(component, leaves, root + site.path, site.layout, site.tied)
            out.setdefault(part.prefix + site.key, []).append(source)
    return out


def _check_constants(codi: CoDi, component: str, leaves: CheckpointReader) -> None:
    """Checks that the constants are those in the release's code, which scales latents by fixed numbers.

    Raises:
      ConfigError: a constant differs.
    """
    for name, fixed in release.constants(codi, component).items():
        path = f"constants/{component}/{name}"
        if path in leaves.shapes and not np.allclose(leaves.read(path), fixed, rtol=1e-5, atol=0):
            raise ConfigError(
                f"{component}: its {name} differs from {np.unique(fixed)}, which is fixed in the release's code; a "
                "component that was trained with other latent statistics cannot be exported"
            )


def _read(key: str, sources: list[_Source]) -> np.ndarray:
    first, *others = sources
    array = first.read()
    for other in others:
        if not np.array_equal(array, other.read()):
            raise ConfigError(
                f"{first.component} and {other.component} differ in {key}, of which the release has only one; share "
                "the component (compat=release), or export a model with one of the two"
            )
    return array


def export(codi: CoDi, directories: Mapping[str, Path], out: Path) -> str:
    """Writes those of the release's four files that have any of the components.

    Args:
      codi: the model.
      directories: component -> its directory, as written by `save_params`.
      out: directory for the files.

    Returns:
      A table of the files written.

    Raises:
      ConfigError: there is no component of the release, or two components that share a tensor in it differ.
      CheckpointError: a component cannot be read.
    """
    sources = _sources(codi, directories)
    if not sources:
        raise ConfigError("nothing to export: no weights found; see --config.weights and --workdir")
    Path(out).mkdir(parents=True, exist_ok=True)
    rows = [("file", "tensors", "bytes", "components")]
    for name, roots in release.FILES.items():
        selected = {key: leaves for key, leaves in sources.items() if key.startswith(roots)}
        if not selected:
            continue
        by_path = {leaves[0].path: key for key, leaves in selected.items() if not leaves[0].tied}
        ties = {key: by_path[leaves[0].path] for key, leaves in selected.items() if leaves[0].tied}
        items = [
            Item(key, leaves[0].like.shape, leaves[0].like.dtype, partial(_read, key, leaves))
            for key, leaves in selected.items()
            if key not in ties
        ]
        write_pth(Path(out) / name, items, ties)
        components = dict.fromkeys(source.component for leaves in selected.values() for source in leaves)
        nbytes = sum(leaves[0].like.nbytes for leaves in selected.values())
        rows.append((name, str(len(selected)), size(nbytes), " ".join(components)))
    return table(rows, right=(1, 2))
