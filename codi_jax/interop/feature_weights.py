"""Public weights of feature networks, which measure samples and are no components of a CoDi model.

They are read from the published file, or from the directory that `codi-jax convert` made of it (`convert_networks`),
which has the same numbers.
"""

import contextlib
import dataclasses
import hashlib
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Generic, TypeVar

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from codi_jax import storage
from codi_jax.checkpoint import CheckpointError, load_params, read_meta
from codi_jax.config import ConfigError
from codi_jax.interop.family import Family, first_keys, read
from codi_jax.interop.tensors import open_state

Config = TypeVar("Config")


@dataclasses.dataclass(frozen=True)
class FeatureWeights(Generic[Config]):
    """The published file of a feature network.

    Attributes:
      family: layout of the file, with the network as its only part.
      published: sizes of the network in the published file.
      network: sizes -> the network.
      example: shape of an input that initializes it.
    """

    family: Family
    published: Config
    network: Callable[[Config], nn.Module]
    example: tuple[int, ...]

    @property
    def name(self) -> str:
        """Name of the network."""
        return self.family.parts[0].component

    def shapes(self, config: Config) -> dict[str, Any]:
        """Shapes and dtypes of the parameters, a nested dict."""
        example = jax.ShapeDtypeStruct(self.example, jnp.float32)
        return jax.eval_shape(self.network(config).init, jax.random.key(0), example)["params"]

    def read(self, state: Mapping[str, Any], config: Config) -> tuple[dict[str, Any], dict[str, str]]:
        """Reads the parameters.

        Args:
          state: the flat dictionary of a file.
          config: sizes of the network.

        Returns:
          Nested dict of float32 arrays; and ignored key -> reason.

        Raises:
          ConfigError: the file holds other weights.
          NamesError: naming the first tensors that are missing, unexpected, misshaped, mistyped or not finite.
        """
        if self.family.root(state) is None:
            raise ConfigError(f"not the weights of {self.family.name}: it holds {first_keys(state)}, …")
        self.family.check_supported(state)
        found, ignored = read(self.family, state, {self.name: config}, {self.name: self.shapes(config)})
        return found[self.name].tree, ignored

    def load(self, path: str | Path, config: Config | None = None) -> dict[str, Any]:
        """Reads the parameters.

        Args:
          path: a PyTorch archive, read without pickle, or a safetensors file, on a local disk; or a directory of
            `convert_networks`.
          config: sizes of the network; those of the published weights if None.

        Returns:
          Nested dict of float32 arrays.

        Raises:
          ConfigError: the file or directory cannot be read, or holds other weights.
          NamesError: see `read`.
        """
        config = self.published if config is None else config
        if directory := self._directory(path):
            target = jax.tree.map(lambda leaf: np.empty(leaf.shape, leaf.dtype), self.tree(self.shapes(config)))
            with _one_line(directory):
                return load_params(str(directory), target)["params"][self.name]
        state = open_state(path)
        try:
            return self.read(state, config)[0]
        except ConfigError as error:
            raise type(error)(f"{path}: {error}") from None

    def tree(self, params: Any) -> dict[str, Any]:
        """What a directory holds, of the parameters."""
        return {"params": {self.name: params}}

    def identity(self, path: str | Path) -> str:
        """Sha256 of a file; of a directory, that of the file that it was made of.

        Raises:
          ConfigError: the directory cannot be read, or `convert_networks` did not write it.
        """
        if directory := self._directory(path):
            with _one_line(directory):
                meta = read_meta(str(directory))
            if "sha256" not in meta:
                raise ConfigError(f"{directory} does not say of which file it is; `codi-jax convert` writes it anew")
            return meta["sha256"]
        return sha256(path)

    def _directory(self, path: str | Path) -> Path | None:
        """The network's directory, if the path is a directory."""
        root = storage.as_path(path)
        return root / self.name if storage.is_remote(root) or root.is_dir() else None


@contextlib.contextmanager
def _one_line(directory: Path) -> Iterator[None]:
    """Raises errors of a checkpoint as a ConfigError of one line."""
    try:
        yield
    except CheckpointError as error:
        raise ConfigError(" ".join(str(error).split())) from error


def sha256(path: str | Path) -> str:
    """Sha256 of the content of a file."""
    with Path(os.path.expanduser(path)).open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
