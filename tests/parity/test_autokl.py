"""The KL autoencoder against the reference: image and video (case 07), spectrograms (case 08)."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import traverse_util

from codi_jax.encoders.autokl import AutoKL, clip_outliers
from codi_jax.interop import autokl as interop
from codi_jax.interop.names import from_release, under
from tests.parity.golden import Case, cases, check_weights_return


def load(case: Case, prefix: str) -> tuple[AutoKL, dict, dict]:
    """The model, its parameters and the reference's weights without their prefix."""
    config = case.config
    model = AutoKL(interop.config(config["ddconfig"], config["embed_dim"]))
    side = 2 * model.config.downscale
    example = jax.ShapeDtypeStruct((1, side, side, model.config.in_channels), jnp.float32)
    target = jax.eval_shape(model.init, jax.random.key(0), example)["params"]
    weights = under(case.weights(), prefix)
    return model, from_release(weights, interop.RULES, target, interop.IGNORE), weights


def run(model: AutoKL, params: dict, x, method: str):
    """The result of a method and the outputs of all submodules by path, channels first as in the reference."""

    def apply(params, x):
        return model.apply({"params": params}, x, method=method, capture_intermediates=True, mutable="intermediates")

    with jax.default_matmul_precision("highest"):
        out, state = jax.jit(apply)(params, np.moveaxis(x, 1, -1))
    inner = traverse_util.flatten_dict(state["intermediates"], sep="/")
    inner = {k.removesuffix("/__call__"): np.moveaxis(v[0], -1, 1) for k, v in inner.items() if k.endswith("__call__")}
    return jax.tree.map(lambda y: np.moveaxis(y, -1, 1), out), inner


def ours(name: str) -> str:
    """Our path for a module of the reference: decoder.up.3.block.0 → decoder/up_3_block_0."""
    return re.sub(r"\.(\d|block)", r"_\1", name.replace("mid.attn_1", "mid_attention")).replace(".", "/")


@pytest.mark.parametrize("case", cases("07"), ids=lambda c: c.path.stem)
@pytest.mark.parametrize("kind", ["image", "video"])
def test_image_and_video_autoencoder(case, kind):
    model, params, _ = load(case, "autokl.")
    scale, inputs = case.config["vision_scale_factor"], case.inputs(kind)
    (mean, logvar), inner = run(model, params, inputs["x"], "encode")
    decoded, more = run(model, params, inputs["z"] / scale, "decode")
    inner |= more
    std = np.exp(0.5 * logvar)
    moments = inner["quant"]
    if kind == "video":  # folded: [B T, C, h, w] → [B, C, T, h, w]
        moments = np.moveaxis(moments.reshape(mean.shape[0], mean.shape[2], *moments.shape[1:]), 1, 2)
    outputs = {"moments": moments, "mean": mean, "logvar": logvar, "std": std, "decoded": decoded}
    outputs |= {"scaled_mean": scale * mean, "scaled_sample": scale * (mean + std * inputs["noise"])}
    names = case.outputs(kind)
    assert set(outputs) <= {n.removeprefix(f"{kind}/") for n in names}
    for name in names:
        short = name.removeprefix(f"{kind}/")
        case.check(name, outputs[short] if short in outputs else inner[ours(short.removeprefix("inter/"))])


@pytest.mark.parametrize("case", cases("08"), ids=lambda c: c.path.stem)
def test_spectrogram_autoencoder(case):
    model, params, _ = load(case, "audioldm.")
    scale, inputs = case.config["audio_scale_factor"], case.inputs()
    (mean, logvar), inner = run(model, params, inputs["mel"], "encode")
    std = np.exp(0.5 * logvar)
    outputs = {"moments": inner["quant"], "mean": mean, "logvar": logvar, "std": std, "scaled_mean": scale * mean}
    outputs["scaled_sample"] = scale * (mean + std * inputs["noise"])
    for name in ("z", "z_large"):  # without and with outliers
        outputs[f"decoded_{name}"], inner = run(model, params, clip_outliers(inputs[name]) / scale, "decode")
        outputs[f"{name}_inter/decoder.mid.attn_1"] = inner["decoder/mid_attention"]
    assert {"decoded_z", "decoded_z_large"} < set(case.outputs())
    for name in case.outputs():
        case.check(name, outputs[name])


@pytest.mark.parametrize("case", cases("08"), ids=lambda c: c.path.stem)
def test_latents_are_clipped_only_with_outliers(case):
    usual, large = case.inputs()["z"], case.inputs()["z_large"]
    assert np.abs(usual).max() <= 100 < np.abs(large).max()
    clip = jax.jit(clip_outliers)
    np.testing.assert_array_equal(clip(usual), usual)
    np.testing.assert_array_equal(clip(large), np.clip(large, -10, 10))
    between = np.float32([-100, -11, 3, 100])
    np.testing.assert_array_equal(clip(between), between)


@pytest.mark.parametrize("case", cases("07") + cases("08"), ids=lambda c: c.path.stem)
def test_weights_convert_back_exactly(case):
    _, params, weights = load(case, "autokl." if "07" in case.name else "audioldm.")
    check_weights_return(params, weights, interop.RULES, interop.IGNORE)
