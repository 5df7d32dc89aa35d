"""The golden U-Nets convert completely and back exactly; cases 1 to 5."""

import numpy as np
import pytest

from codi_jax.interop.names import NamesError, from_release, to_release, under
from tests.parity import unets
from tests.parity.golden import cases

FILES = {case.name: case for number in ("01", "02", "03", "04", "05") for case in cases(number)}
NETS = [
    pytest.param(case, key.removesuffix("_cfg"), id=f"{case.name}-{key.removesuffix('_cfg')}")
    for case in FILES.values()
    for key in case.config
    if key.startswith("unet_") and key.endswith("_cfg")
]


@pytest.mark.parametrize(("case", "name"), NETS)
def test_conversion_is_complete_and_back_exact(case, name):
    net, params = unets.load(case, name)
    state = under(case.weights(), f"model.diffusion_model.{name}.")
    back = {}
    for part, (rules, _) in unets.tables(net.unet, net.environment).items():
        back |= to_release(params[part], rules)
    assert set(back) == set(state)
    for key, value in state.items():
        np.testing.assert_array_equal(back[key], value)


def test_a_missing_weight_is_named():
    param = NETS[0].values
    net, params = unets.load(*param)
    state = under(param[0].weights(), f"model.diffusion_model.{param[1]}.")
    del state["time_embed.2.bias"]
    rules, others = unets.tables(net.unet, net.environment)["unet"]
    with pytest.raises(NamesError, match=r"missing: time_embed\.2\.bias \(our time/layer_out/bias\)"):
        from_release(state, rules, params["unet"], others)
