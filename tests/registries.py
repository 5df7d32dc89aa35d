"""Registries without the entries that a test has added."""

import contextlib
import importlib
from collections.abc import Iterator

from codi_jax.codi import PRESETS
from codi_jax.data.source import SOURCES
from codi_jax.data.source import register as register_source
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


@contextlib.contextmanager
def polymnist() -> Iterator[None]:
    """The plugin `codi_jax.polymnist` is registered within the block, also if it was imported before."""
    with restored():
        module = importlib.import_module("codi_jax.polymnist")
        if "polymnist" not in SOURCES:
            register_source("polymnist", module.PolyMNISTConfig)(module.PolyMNIST)
        for name, modality in importlib.import_module("codi_jax.polymnist.modalities").CLASSES.items():
            MODALITIES.add(name, modality)
        yield


def forget_polymnist() -> None:
    """Removes what a test file registers that imports `codi_jax.polymnist` at its beginning."""
    for registry in (MODALITIES, SOURCES):
        for name in set(registry._entries) & {"polymnist", "view_1", "view_2", "view_3", "digit", "quadrant"}:
            del registry._entries[name]
