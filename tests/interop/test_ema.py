"""Averages beside weights, or alone: `--ema` reads them, and without it they are ignored or named."""

import numpy as np
import pytest

from codi_jax.config import ConfigError
from codi_jax.interop.ema import with_ema
from codi_jax.interop.families import read, recognise
from tests.interop import cases
from tests.interop.cases import CONFIGS
from tests.interop.states import UNET, bytes_of, only, state_of, under


def averaged(state, root="", model="model."):
    """The state beside averages of what is below `model`, as LitEma stores them."""
    inner = [key for key in state if key.startswith(root + model)]
    names = {key: f"{root}model_ema." + key.removeprefix(root).removeprefix("model.").replace(".", "") for key in inner}
    others = {key: value for key, value in state.items() if "model_ema." not in key}
    averages = {names[key]: state[key] + 1 for key in inner}
    return others | averages | {f"{root}model_ema.decay": np.ones(()), f"{root}model_ema.num_updates": np.ones(())}


@pytest.mark.parametrize("root", ["", "state_dict."])
def test_averages_are_read_instead_of_weights_and_ignored_without(root):
    raw = under(root)({key: value for key, value in state_of("SD").items() if "model_ema." not in key})
    both = averaged(raw, root)
    assert "model_ema.diffusion_modelinput_blocks00weight" in {key.removeprefix(root) for key in both}
    assert bytes_of(both) == bytes_of(raw)
    expected = {key: value + 1 if key.startswith(f"{root}model.") else value for key, value in raw.items()}
    assert bytes_of(with_ema(both)) == bytes_of(expected) != bytes_of(raw)
    ignored = read(recognise(both), both, CONFIGS, cases.targets())[1]
    assert "--ema reads" in ignored["model_ema.diffusion_modelinput_blocks00weight"]


def test_averages_of_an_autoencoder_are_read():
    raw = {key: value for key, value in state_of("VAE, original").items() if not key.startswith("loss.")}
    both = averaged(raw, model="")
    assert bytes_of(both) == bytes_of(raw)
    assert bytes_of(with_ema(both)) == bytes_of({key: value + 1 for key, value in raw.items()})


SECOND_DICTS = [
    ("model.", "ema."),
    ("state_dict.", "state_dict_ema."),
    ("", "model_ema."),
    ("model.unet.", "ema.ema_model.unet."),
    ("params.", "params_ema."),
    ("state_dict.model.", "ema_state_dict.model."),
]


@pytest.mark.parametrize(("raw", "ema"), SECOND_DICTS)
def test_averages_in_a_second_dict_are_read_with_or_without_weights_beside_them(raw, ema):
    unet = only(UNET)(state_of("SD"))
    averages = {key: value + 1 for key, value in unet.items()}
    others = {"ema.step": np.ones(()), "epoch": np.ones(())} if raw else {}
    both = under(ema)(averages) | under(raw)(unet) | others
    assert bytes_of(with_ema(both)) == bytes_of(averages)
    assert bytes_of(with_ema(under(ema)(averages))) == bytes_of(averages)
    with pytest.raises(ConfigError, match=r"it holds moving averages alone, which --ema reads$"):
        recognise(under(ema)(averages))
    if raw:
        assert bytes_of(both) == bytes_of(unet)


def test_averages_of_a_part_leave_the_others():
    state = {key: value for key, value in state_of("SD").items() if "model_ema." not in key}
    unet = only(UNET)(state)
    both = state | {f"ema.{key}": value + 1 for key, value in unet.items()}
    assert bytes_of(with_ema(both)) == bytes_of(state | {UNET + key: value + 1 for key, value in unet.items()})
    with pytest.raises(ConfigError, match=r"ema\.out\.2\.bias \(9,\) is the average of model.diffusion_model.out"):
        with_ema(both | {"ema.out.2.bias": np.ones(9)})


def test_averages_alone_whose_names_have_no_dots_are_named():
    alone = {key: value for key, value in averaged(state_of("SD")).items() if "model_ema." in key}
    said = "it holds moving averages alone, whose names have lost their dots; give the file that has the weights beside"
    for use in (recognise, with_ema):
        with pytest.raises(ConfigError, match=said):
            use(alone)


def test_averages_that_are_absent_or_fit_nothing_are_named():
    with pytest.raises(
        ConfigError, match=r"no moving averages \(model_ema\.…, ema\.…\): without --ema its weights are read"
    ):
        with_ema(state_of("CLIP"))
    state = averaged(state_of("SD"))
    with pytest.raises(ConfigError, match=r"1 moving averages belong to no weight: model_ema\.strange"):
        with_ema(state | {"model_ema.strange": np.ones(1)})
    key = "model_ema.diffusion_modelout2bias"
    with pytest.raises(ConfigError, match=rf"{key} \(9,\) is the average of model.diffusion_model.out.2.bias \(4,\)"):
        with_ema(state | {key: np.ones(9, np.float32)})
