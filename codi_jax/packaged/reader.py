"""A package as the start of a run: its leaves are read one by one."""

from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from codi_jax.packaged.package import Package


class PackageReader:
    """Reads single arrays of a packaged model, as `CheckpointReader` does those of a checkpoint.

    Attributes:
      shapes: path -> shape and dtype of every leaf.

    Raises:
      ConfigError: model.safetensors is missing or damaged.
    """

    def __init__(self, package: Package):
        self._tensors = package._tensors("model")
        self.shapes = {path: jax.ShapeDtypeStruct(x.shape, x.dtype) for path, x in self._tensors.items()}

    def read(self, path: str) -> np.ndarray:
        """One leaf, in the type in which it is stored."""
        return np.asarray(self._tensors[path])

    def read_into(self, leaves: Mapping[str, jax.ShapeDtypeStruct]) -> dict[str, Any]:
        """Path -> array, for leaves of this dtype and sharding."""
        return {p: jax.device_put(self.read(p).astype(leaf.dtype), leaf.sharding) for p, leaf in leaves.items()}
