"""polymnist is registered for the tests of this folder alone."""

import pytest

import codi_jax.polymnist  # noqa: F401  before the test files, whose import then registers nothing
from tests import registries

registries.forget_polymnist()


@pytest.fixture(scope="module", autouse=True)
def plugin():
    with registries.polymnist():
        yield
