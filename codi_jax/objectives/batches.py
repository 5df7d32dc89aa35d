"""Batches of objectives: media of the modalities, or latents and prompts that an encode stage has computed."""

import dataclasses
from typing import Any

import jax.numpy as jnp

from codi_jax.codi import CoDi
from codi_jax.config import ConfigError
from codi_jax.objectives import conditioning
from codi_jax.objectives.base import StageSpec
from codi_jax.objectives.conditioning import Encoded


def pair_of(names: tuple[str, ...], batch: dict) -> tuple[str, str]:
    """The two of a stage's modalities that a batch holds; in a mixture of pairs every batch is of one pair.

    Raises:
      ConfigError: the batch does not hold exactly two of them.
    """
    pair = tuple(name for name in names if name in batch)
    if len(pair) != 2:
        raise ConfigError(f"a batch must hold two of {', '.join(names)}, not {', '.join(pair) or 'none'}")
    return pair


@dataclasses.dataclass(frozen=True, eq=False)
class MediaBatches:
    """Batches {modality: media}, see `Modality.prepare`.

    Attributes:
      codi: the model.
      modalities: of a batch.
      in_pairs: whether a batch holds two of them, where there are more.
    """

    codi: CoDi
    modalities: tuple[str, ...]
    in_pairs: bool = False

    @property
    def components(self) -> tuple[str, ...]:
        """Components that `encode` reads."""
        return self.codi.components_of(("codec", "prompt"), self.modalities)

    def batch(self, samples: dict) -> dict[str, Any]:
        """A batch from stacked samples of a source."""
        names = self.modalities
        if self.in_pairs and len(names) > 2:
            names = pair_of(names, samples)
        return {name: self.codi[name].prepare(samples) for name in names}

    def example(self, size: int) -> dict[str, Any]:
        """A batch of zeros, of the first pair where batches are pairs."""
        names = self.modalities[:2] if self.in_pairs else self.modalities
        return {name: self.codi[name].example(size) for name in names}

    def encode(self, variables: dict, batch: dict) -> dict[str, Encoded]:
        """Latents and prompts of a batch."""
        return conditioning.encode(self.codi, variables, batch)


@dataclasses.dataclass(frozen=True, eq=False)
class EncodedBatches:
    """Batches {modality: Encoded}.

    Attributes:
      codi: the model.
      modalities: of a batch.
      mixed: whether samples may lack some of them.
    """

    codi: CoDi
    modalities: tuple[str, ...]
    mixed: bool = False

    @property
    def components(self) -> tuple[str, ...]:
        """Components that `encode` reads: none."""
        return ()

    def batch(self, samples: dict) -> dict[str, Encoded]:
        """A batch from stacked samples of a source."""
        return {name: Encoded(**samples[name]) for name in self.modalities}

    def example(self, size: int) -> dict[str, Encoded]:
        """A batch of zeros."""
        prompt = jnp.zeros((size, self.codi.config.width))
        present = jnp.zeros((size,)) if self.mixed else None
        latents = {name: jnp.zeros((size, *self.codi[name].latent_shape)) for name in self.modalities}
        null = prompt if self.codi.config.null == "empty" else None
        return {name: Encoded(latent, latent, prompt, prompt, present, null) for name, latent in latents.items()}

    def encode(self, variables: dict, batch: dict[str, Encoded]) -> dict[str, Encoded]:
        """The batch itself."""
        del variables
        return batch


def batches_of(codi: CoDi, stage: StageSpec, in_pairs: bool = False) -> EncodedBatches | MediaBatches:
    """The batches of a stage: encoded ones, or media, for `in_pairs` see `MediaBatches`."""
    if stage.encoded:
        return EncodedBatches(codi, stage.modalities, stage.mixed)
    return MediaBatches(codi, stage.modalities, in_pairs=in_pairs)
