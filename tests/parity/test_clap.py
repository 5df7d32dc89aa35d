"""The CLAP audio tower against the reference (case 13): log-mel to token, with the output of every layer."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import traverse_util

from codi_jax.encoders.clap import CLAPAudio, fold, unit_or_zero
from codi_jax.encoders.swin import relative_index, shift_mask
from codi_jax.interop import clap as interop
from codi_jax.interop.names import from_release, under
from tests.parity.golden import Case, cases, check_weights_return

CASES = pytest.mark.parametrize("case", cases("13"), ids=lambda c: c.path.stem)


def load(case: Case) -> tuple[CLAPAudio, dict, dict]:
    """The tower, its parameters and the reference's weights without their prefix."""
    tower = CLAPAudio(interop.config(case.config["htsat"], case.config["joint_embed_shape"]))
    example = jax.ShapeDtypeStruct((1, 1, tower.config.mel_bins), jnp.float32)
    target = jax.eval_shape(tower.init, jax.random.key(0), example)["params"]
    weights = under(case.weights(), "clap.model.")
    return tower, from_release(weights, interop.RULES, target, interop.IGNORE), weights


@CASES
def test_spectrogram_to_token(case):
    tower, params, _ = load(case)
    config = tower.config

    def apply(params, x):
        return tower.apply({"params": params}, x, capture_intermediates=True, mutable="intermediates")

    with jax.default_matmul_precision("highest"):
        projected, state = jax.jit(apply)(params, case.inputs()["logmel"][:, 0])
    inner = traverse_util.flatten_dict(state["intermediates"], sep="/")
    inner = {k.removesuffix("/__call__"): np.asarray(v[0]) for k, v in inner.items()}
    cells = {k: v.reshape(v.shape[0], -1, v.shape[-1]) for k, v in inner.items()}

    outputs = {"projected": projected, "token": unit_or_zero(projected)[:, None], "embedding": cells["norm"].mean(1)}
    outputs["inter/bn0_bfta"] = inner["norm_mel"].swapaxes(1, 2)[..., None]
    outputs["inter/reshape_wav2img"] = fold(inner["norm_mel"], config)[:, None]
    outputs["inter/patch_embed"], outputs["inter/norm"] = cells["norm_in"], cells["norm"]
    for stage, depth in enumerate(config.depths):
        blocks = [f"stage_{stage}_block_{block}" for block in range(depth)]
        outputs |= {f"inter/layers.{stage}.blocks.{i}": cells[name] for i, name in enumerate(blocks)}
        outputs[f"inter/layers.{stage}"] = cells.get(f"stage_{stage}_merge", cells[blocks[-1]])
    assert outputs.keys() == set(case.outputs())
    for name, value in outputs.items():
        case.check(name, value)


@CASES
def test_weights_convert_back_exactly(case):
    _, params, weights = load(case)
    check_weights_return(params, weights, interop.RULES, interop.IGNORE)


@CASES
def test_computed_indices_and_masks_match_the_checkpoint(case):
    """We compute the indices and masks that the checkpoint contains."""
    tower, _, weights = load(case)
    config, shifted = tower.config, set()
    for stage, depth in enumerate(config.depths):
        for block in range(depth):
            key, side = f"audio_branch.layers.{stage}.blocks.{block}.", config.window_of(stage)
            np.testing.assert_array_equal(relative_index(side), weights[key + "attn.relative_position_index"])
            if shift := config.shift_of(stage, block):
                shifted.add(key + "attn_mask")
                np.testing.assert_array_equal(shift_mask(config.grid(stage), side, shift), weights[key + "attn_mask"])
    assert shifted == {key for key in weights if key.endswith("attn_mask")}
