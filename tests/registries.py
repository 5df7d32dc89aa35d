"""Registries without the entries that a test has added."""

import contextlib
from collections.abc import Iterator

from codi_jax.codi import PRESETS
from codi_jax.data.source import SOURCES
from codi_jax.diffusion.samplers import SAMPLERS
from codi_jax.evaluation.networks import NETWORKS
from codi_jax.modalities import MODALITIES
from codi_jax.objectives.base import OBJECTIVES

ALL = (MODALITIES, NETWORKS, OBJECTIVES, PRESETS, SAMPLERS, SOURCES)


@contextlib.contextmanager
def restored() -> Iterator[None]:
    """Removes the entries that are added within the block; built-in ones that were imported meanwhile stay."""
    before = [set(registry) for registry in ALL]
    try:
        yield
    finally:
        for registry, names in zip(ALL, before, strict=True):
            for name in set(registry) - names:
                del registry._entries[name]
