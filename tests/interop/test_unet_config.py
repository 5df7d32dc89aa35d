"""Our configs from the release's constructor arguments, and its three U-Nets at their real size."""

import re

import jax
import numpy as np
import pytest

from codi_jax.config import ConfigError
from codi_jax.interop.names import to_release
from codi_jax.interop.unet import unet_config_from_release
from tests.parity import unets

_LEVELS = {"channel_mult": (1, 2, 4, 4), "connector_output_channel": 1280, "context_dim": 768}
IMAGE = {"input_channels": 4, "output_channels": 4, "model_channels": 320, "use_video_architecture": True, **_LEVELS}
AUDIO = {"input_channels": 8, "output_channels": 8, "model_channels": 192, **_LEVELS}
TEXT = {"input_channels": 768, "output_channels": 768, "model_channels": 320, "second_dim": (4, 4, 4, 4), **_LEVELS}


@pytest.mark.parametrize(
    ("args", "keys", "parameters"),
    [
        pytest.param(IMAGE, 1597, 1_772_784_247, id="image"),
        pytest.param(AUDIO, 1122, 431_309_032, id="audio"),
        pytest.param(TEXT, 1122, 2_048_385_408, id="text"),
    ],
)
def test_the_real_networks_have_the_keys_and_parameters_of_the_release(args, keys, parameters):
    unet, environment, width = unet_config_from_release(args)
    targets = unets.targets(unet, environment, width)
    assert sum(np.prod(leaf.shape) for leaf in jax.tree.leaves(targets)) == parameters
    stub = jax.tree.map(lambda leaf: np.broadcast_to(np.float32(0), (1,) * len(leaf.shape)), targets)
    names = {}
    for part, (rules, others) in unets.tables(unet, environment).items():
        exported = to_release(stub[part], rules)
        assert not any(re.fullmatch(pattern, key) for key in exported for pattern in others)
        assert not set(names) & set(exported)
        names |= exported
    assert len(names) == keys


def test_absent_arguments_have_the_defaults_of_the_release():
    unet, environment, width = unet_config_from_release(IMAGE)
    assert (unet.kind, unet.groups, unet.heads, unet.context_width, unet.temporal) == ("spatial", 32, 8, 768, True)
    assert (unet.blocks, unet.attention_levels, unet.cross_modal_levels) == ((2,) * 4, *[(True, True, True, False)] * 2)
    assert (environment.width, environment.multipliers, environment.blocks) == (1280, (1, 2, 4), (1, 1, 1))
    assert (environment.tokens, environment.normalize, environment.temporal, width) == ("pooled", True, True, 1280)


def test_second_dim_selects_the_vector_kind():
    unet, environment, _ = unet_config_from_release(TEXT)
    assert unet.kind == environment.kind == "vector"
    assert unet.vector_tokens == environment.vector_tokens == 4


def test_without_connectors_there_is_no_environment_and_no_cross_modal_attention():
    unet, environment, _ = unet_config_from_release({**IMAGE, "init_connector": False})
    assert environment is None
    assert unet.cross_modal_levels == (False,) * 4


def test_unsupported_structures_are_refused():
    with pytest.raises(ConfigError, match="same on every level"):
        unet_config_from_release({**TEXT, "second_dim": (4, 4, 2, 2)})
    with pytest.raises(ConfigError, match="must equal input_channels"):
        unet_config_from_release({**IMAGE, "output_channels": 8})
