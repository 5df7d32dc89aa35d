"""polymnist is registered, as by `config.plugins`, for the tests of this folder alone."""

import pytest

from codi_jax import polymnist
from codi_jax.data.source import SOURCES, register
from codi_jax.modalities import MODALITIES
from codi_jax.polymnist.modalities import CLASSES
from tests import registries

for name in polymnist.MODALITIES:  # which the import above has registered
    MODALITIES._entries.pop(name, None)
SOURCES._entries.pop("polymnist", None)


@pytest.fixture(scope="module", autouse=True)
def plugin():
    with registries.restored():
        register("polymnist", polymnist.PolyMNISTConfig)(polymnist.PolyMNIST)
        for name, modality in CLASSES.items():
            MODALITIES.add(name, modality)
        yield
