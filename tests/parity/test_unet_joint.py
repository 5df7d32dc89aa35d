"""Joint generation as in the release, where outputs attend to their own environment; case 5."""

import jax
import pytest

from tests.parity import unets
from tests.parity.golden import cases

SUBCASES = [(case, subcase) for case in cases("05") for subcase in case.config["subcases"]]
OUTPUTS = [
    pytest.param(
        *(case, subcase, i),
        id=f"{subcase['name']}-{modality}",
        marks=[pytest.mark.slow] if subcase["name"] == "video_audio" else [],  # the longest to compile
    )
    for case, subcase in SUBCASES
    for i, modality in enumerate(subcase["xtype"])
]
PROBES = [pytest.param(c, s, id=s["name"]) for c, s in SUBCASES if s["mode"] == "connector"]


@pytest.mark.parametrize(("case", "subcase", "output"), OUTPUTS)
def test_prediction_environment_and_intermediates(case, subcase, output):
    with jax.default_matmul_precision("highest"):
        got = unets.run(case, subcase, output)
    modality = subcase["xtype"][output]
    names = [
        name
        for name in case.outputs(subcase["name"])
        if name.endswith((f"eps{output}", f"h_con{output}")) or f"/inter/{modality}/" in name
    ]
    assert len(names) >= 2
    assert set(names) <= set(got)
    for name in names:
        case.check(name, got[name])


@pytest.mark.parametrize(("case", "subcase"), PROBES)
def test_one_block_of_cross_modal_attention(case, subcase):
    with jax.default_matmul_precision("highest"):
        case.check(f"{subcase['name']}/out", unets.probe(case, subcase))
