"""torchvggish's file: read completely, written back exactly, and refused with a reason."""

import jax
import numpy as np
import pytest
from safetensors.numpy import save_file

from codi_jax.config import ConfigError
from codi_jax.encoders.vggish import VGGishConfig
from codi_jax.interop.names import NamesError, to_release
from codi_jax.interop.vggish import RULES, load_vggish, vggish_shapes
from tests.interop import files

TINY = VGGishConfig(channels=(2, 3, 4, 5), hidden=7, embedding=6)


@pytest.fixture
def state():
    return files.filled(files.vggish(TINY.channels, TINY.hidden, TINY.embedding))


def test_both_formats_are_read_and_written_back_exactly(tmp_path, state):
    tree = load_vggish(files.save(tmp_path / "vggish.pth", state), TINY)
    back = to_release(tree, RULES)
    assert back.keys() == state.keys()
    for key, value in back.items():
        np.testing.assert_array_equal(value, state[key], key)
    save_file(state, tmp_path / "vggish.safetensors")
    again = load_vggish(tmp_path / "vggish.safetensors", TINY)
    jax.tree.map(np.testing.assert_array_equal, again, tree)


def test_the_published_file_has_these_keys_and_shapes():
    config = VGGishConfig()
    ours = jax.tree.map(lambda s: np.broadcast_to(np.float32(0), s.shape), vggish_shapes(config))
    theirs = {key: (n, value) for n, rule in enumerate(RULES) for key, value in [(rule.theirs, rule)]}
    want = files.vggish()
    assert theirs.keys() == want.keys()
    assert len(jax.tree.leaves(ours)) == len(want) == 18
    assert sum(np.prod(shape) for shape in want.values()) == sum(x.size for x in jax.tree.leaves(ours))


def test_a_training_prefix_and_the_postprocessing_are_explained(tmp_path, state):
    wrapped = {f"state_dict.{key}": value for key, value in state.items()}
    extra = {"state_dict.pproc.pca_means": np.zeros((6, 1), np.float32)}
    tree = load_vggish(files.save(tmp_path / "a.pth", wrapped | extra), TINY)
    assert tree["conv_5"]["kernel"].shape == (3, 3, 5, 5)


def test_what_does_not_fit_is_named(tmp_path, state):
    bias = state.pop("features.13.bias")
    with pytest.raises(NamesError, match=r"a\.pth: VGGish of torchvggish: .*missing: features\.13\.bias"):
        load_vggish(files.save(tmp_path / "a.pth", state), TINY)
    state["features.13.bias"] = bias
    with pytest.raises(NamesError, match=r"unexpected keys: features\.16\.bias|unexpected: features\.16\.bias"):
        load_vggish(files.save(tmp_path / "b.pth", state | {"features.16.bias": bias}), TINY)
    with pytest.raises(NamesError, match=r"misshaped: features\.0\.weight \(3, 3, 1, 2\)"):
        load_vggish(files.save(tmp_path / "c.pth", state), VGGishConfig(hidden=7))
    with pytest.raises(ConfigError, match=r"d\.pth: not the weights of VGGish of torchvggish: it holds weight, …$"):
        load_vggish(files.save(tmp_path / "d.pth", {"weight": bias}), TINY)
    (tmp_path / "e.pth").write_bytes(b"\x80\4.")
    with pytest.raises(ConfigError, match="bare pickle"):
        load_vggish(tmp_path / "e.pth", TINY)
