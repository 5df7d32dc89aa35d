"""What the config of every modality has."""

from collections.abc import Mapping
from typing import Protocol

from codi_jax.nn.config import EnvironmentConfig, UNetConfig


class ModalityConfig(Protocol):
    """The fields that the config of every modality has.

    Attributes:
      denoiser, environment: sizes of these networks.
      components: role -> component name, to share a component with another modality or to stop sharing it.
    """

    @property
    def denoiser(self) -> UNetConfig: ...

    @property
    def environment(self) -> EnvironmentConfig: ...

    @property
    def components(self) -> Mapping[str, str]: ...
