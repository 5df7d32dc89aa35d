"""Caption post-processing against the reference (case 11b), exactly."""

import pytest

from codi_jax.encoders.text_postprocess import tidy
from tests.parity.golden import cases


@pytest.mark.parametrize("case", cases("11b"), ids=lambda c: c.path.stem)
def test_captions(case):
    got = [tidy(text) for text in case.inputs()["texts"].tolist()]
    assert got == case.arrays["out/texts"].tolist()
