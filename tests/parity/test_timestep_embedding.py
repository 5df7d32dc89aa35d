"""The sinusoidal timestep embedding against the reference; case 15."""

import jax
import pytest

from codi_jax.nn.embeddings import timestep_embedding
from tests.parity.golden import cases

WIDTHS = [pytest.param(case, width, id=str(width)) for case in cases("15") for width in case.config["dims"]]


@pytest.mark.parametrize(("case", "width"), WIDTHS)
def test_timestep_embedding(case, width):
    embed = jax.jit(timestep_embedding, static_argnums=1)
    case.check(f"dim{width}", embed(case.inputs()["t"], width))
