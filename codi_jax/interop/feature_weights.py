"""Public weights of feature networks, which measure samples and are no components of a CoDi model."""

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Generic, TypeVar

import flax.linen as nn
import jax
import jax.numpy as jnp

from codi_jax.config import ConfigError
from codi_jax.interop.family import Family, first_keys, read, weight_keys
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
          NamesError: naming every tensor that is missing, unexpected, misshaped, mistyped or not finite.
        """
        keys = weight_keys(state)
        if not self.family.matches(keys):
            raise ConfigError(f"not the weights of {self.family.name}: it holds {first_keys(keys)}, …")
        self.family.check_supported(keys)
        found, ignored = read(self.family, state, {self.name: config}, {self.name: self.shapes(config)})
        return found[self.name].tree, ignored

    def load(self, path: str | Path, config: Config | None = None) -> dict[str, Any]:
        """Reads the parameters from a file.

        Args:
          path: a PyTorch archive, read without pickle, or a safetensors file.
          config: sizes of the network; those of the published weights if None.

        Returns:
          Nested dict of float32 arrays.

        Raises:
          ConfigError, NamesError: the file cannot be read, or see `read`; the message begins with the path.
        """
        state = open_state(path)
        try:
            return self.read(state, self.published if config is None else config)[0]
        except ConfigError as error:
            raise type(error)(f"{path}: {error}") from None
