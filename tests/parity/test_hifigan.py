"""The HiFi-GAN generator against the reference (case 09), layer by layer, with plain and weight-normalised weights."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from codi_jax.encoders.hifigan import HiFiGAN
from codi_jax.interop import hifigan as interop
from codi_jax.interop.names import from_release, to_release, under
from tests.parity.golden import Case, cases

CASES = pytest.mark.parametrize("case", cases("09"), ids=lambda c: c.path.stem)


def load(case: Case) -> tuple[HiFiGAN, dict, dict]:
    """The generator, the shapes of its parameters and the reference's weights without their prefix."""
    model = HiFiGAN(interop.config(case.config["hifigan"]))
    mel = jax.ShapeDtypeStruct((1, 4, model.config.mels), jnp.float32)
    target = jax.eval_shape(model.init, jax.random.key(0), mel)["params"]
    return model, target, under(case.weights(), "audioldm.vocoder.")


@CASES
def test_wave_and_intermediates(case):
    model, target, weights = load(case)
    params = from_release(weights, interop.RULES, target)
    mel = case.inputs()["mel_b1tf"][:, 0]

    def apply(params, mel):
        return model.apply({"params": params}, mel, capture_intermediates=True, mutable="intermediates")

    with jax.default_matmul_precision("highest"):
        wave, state = jax.jit(apply)(params, mel)
    assert wave.shape == (len(mel), model.config.samples(mel.shape[1]))
    case.check("waveform", wave[:, None])
    ours = {"conv_pre": "conv_in", "ups": "up", "resblocks": "res", "conv_post": "conv_out"}
    inter = [name for name in case.outputs() if name.startswith("inter/")]
    assert inter
    for name in inter:
        theirs, *index = re.split(r"\.", name.removeprefix("inter/"))
        value = state["intermediates"]["_".join([ours[theirs], *index])]["__call__"][0]
        case.check(name, np.moveaxis(value, -1, 1))


@CASES
def test_weights_convert_back_exactly(case):
    _, target, weights = load(case)
    back = to_release(from_release(weights, interop.RULES, target), interop.RULES)
    assert back.keys() == weights.keys()
    for key, value in back.items():
        np.testing.assert_array_equal(value, weights[key], key)


@CASES
def test_weight_norm_is_fused(case):
    _, target, weights = load(case)
    plain, split = from_release(weights, interop.RULES, target), {}
    for key, w in weights.items():
        if w.ndim == 3:
            split[f"{key}_g"] = np.linalg.norm(w.reshape(len(w), -1), axis=1)[:, None, None]
            split[f"{key}_v"] = 3 * w
        else:
            split[key] = w
    again = from_release(interop.fused(split), interop.RULES, target)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-9), again, plain)
    same = from_release(interop.fused(weights), interop.RULES, target)
    jax.tree.map(np.testing.assert_array_equal, same, plain)
