"""The weights of FID's Inception-v3 from files, and files that hold something else."""

import jax
import numpy as np
import pytest
import safetensors.numpy

from codi_jax.config import ConfigError
from codi_jax.encoders.inception import InceptionConfig
from codi_jax.interop.families import recognise
from codi_jax.interop.inception import FAMILY, RULES, load_inception
from codi_jax.interop.names import NamesError, to_release
from tests.interop import files

SMALL = InceptionConfig(classes=5, divisor=16)


@pytest.fixture
def state():
    return files.filled(files.inception(16, 5))


def test_both_formats_give_the_tensors_of_the_file(state, tmp_path):
    model, params = load_inception(files.save(tmp_path / "a.pth", state), SMALL)
    safetensors.numpy.save_file(state, tmp_path / "a.safetensors")
    _, again = load_inception(tmp_path / "a.safetensors", SMALL)
    jax.tree.map(np.testing.assert_array_equal, params, again)
    assert model.config == SMALL
    back = to_release(params, RULES)
    assert back.keys() == {key for key in state if not key.endswith("num_batches_tracked")}
    for key, value in back.items():
        np.testing.assert_array_equal(value, state[key])


def test_the_file_is_recognised(state):
    assert recognise(state) is FAMILY
    assert len(files.inception()) == 94 * 6 + 2


def test_missing_misshaped_and_unexpected_tensors_are_named(state, tmp_path):
    del state["Mixed_6b.branch7x7_2.bn.running_var"]
    state["Conv2d_3b_1x1.conv.weight"] = state["Conv2d_3b_1x1.conv.weight"][:3]
    state["Mixed_5b.branch9x9.conv.weight"] = np.ones((1, 1, 1, 1), np.float32)
    with pytest.raises(NamesError) as error:
        load_inception(files.save(tmp_path / "a.pth", state), SMALL)
    for part in (
        "a.pth: Inception-v3 of FID",
        "missing: Mixed_6b.branch7x7_2.bn.running_var",
        "misshaped: Conv2d_3b_1x1.conv.weight (1, 1, 4, 3), expected (1, 1, 4, 5)",
        "unexpected: Mixed_5b.branch9x9.conv.weight",
    ):
        assert part in str(error.value)
    assert "\n" not in str(error.value)


def test_other_weights_are_refused(state, tmp_path):
    aux = state | {"AuxLogits.conv0.conv.weight": np.ones((1, 1, 1, 1), np.float32)}
    with pytest.raises(ConfigError, match="torchvision's Inception-v3, whose features are not those of FID"):
        load_inception(files.save(tmp_path / "a.pth", aux), SMALL)
    with pytest.raises(ConfigError, match=r"not the weights of Inception-v3 of FID: it holds wte\.weight, …"):
        load_inception(files.save(tmp_path / "b.pth", {"wte.weight": np.ones((2, 2), np.float32)}), SMALL)
    with pytest.raises(NamesError, match=r"misshaped: Conv2d_1a_3x3"):
        load_inception(files.save(tmp_path / "c.pth", state))
    with pytest.raises(ConfigError, match="there is no such file"):
        load_inception(tmp_path / "d.pth")
