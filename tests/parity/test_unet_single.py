"""The U-Nets against the release, one modality at a time, with and without aliased skip; cases 1 to 4 and 6."""

import jax
import pytest

from tests.parity import unets
from tests.parity.golden import cases

FILES = {case.name: case for number in ("01", "02", "02b", "03", "04", "06") for case in cases(number)}
# The image U-Net of more frames; true skips and longer contexts, which its images show.
LONG = (
    "video_long-video_released",
    *(f"{m}_{form}" for m in ("video", "audio", "text") for form in ("trueskip", "ctx4")),
    *("06_single-audio", "06_single-text", "06_single-video"),
)
SUBCASES = [
    pytest.param(
        *(case, subcase),
        id=f"{case.name}-{subcase['name']}",
        marks=[pytest.mark.slow] if f"{case.name}-{subcase['name']}".endswith(LONG) else [],
    )
    for case in FILES.values()
    for subcase in case.config["subcases"]
]


@pytest.mark.parametrize(("case", "subcase"), SUBCASES)
def test_prediction_and_intermediates(case, subcase):
    with jax.default_matmul_precision("highest"):
        got = unets.run(case, subcase, 0)
    names = case.outputs(subcase["name"])
    assert f"{subcase['name']}/eps0" in names
    assert set(names) <= set(got)
    for name in names:
        case.check(name, got[name])
