"""The fixture `run`."""

import shutil

import pytest

from codi_jax.train.recipe import load_run
from tests import toy
from tests.train.finished import STAGE


@pytest.fixture
def run(tmp_path):
    """A copy of the finished run in which STAGE has not been run yet."""
    shutil.copytree(toy.trained(), tmp_path / "run")
    shutil.rmtree(tmp_path / "run" / "stages" / STAGE)
    return load_run(tmp_path / "run")
