"""The CLIP towers against the reference (case 12): text, image and video, with the output of every layer."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import traverse_util

from codi_jax.encoders.clip import CLIPText, CLIPVision, LogitScale, unit
from codi_jax.interop import clip as interop
from codi_jax.interop.names import from_release, under
from tests.parity.golden import Case, cases, check_weights_return

CASES = pytest.mark.parametrize("case", cases("12"), ids=lambda c: c.path.stem)


def load(case: Case) -> tuple[CLIPText, CLIPVision, dict, dict]:
    """Both towers, the parameters and the reference's weights without their prefix."""
    c = case.config
    text = CLIPText(interop.text_config(c["text_config"], c["projection_dim"]))
    vision = CLIPVision(interop.vision_config(c["vision_config"], c["projection_dim"]))
    side = vision.config.image_size
    arguments = {
        "text": (text, jax.ShapeDtypeStruct((1, 2), jnp.int32)),
        "vision": (vision, jax.ShapeDtypeStruct((1, 2, side, side, 3), jnp.float32)),
        "scale": (LogitScale(),),
    }
    key = jax.random.key(0)
    target = {k: jax.eval_shape(model.init, key, *args)["params"] for k, (model, *args) in arguments.items()}
    weights = under(case.weights(), "clip.model.")
    return text, vision, from_release(weights, interop.RULES, target, interop.IGNORE), weights


def run(tower, params, x):
    """Normalised token [B, 1, D] and the outputs of all submodules by path."""

    def apply(params, x):
        return tower.apply({"params": params}, x, capture_intermediates=True, mutable="intermediates")

    with jax.default_matmul_precision("highest"):
        embedding, state = jax.jit(apply)(params, x)
    inner = traverse_util.flatten_dict(state["intermediates"], sep="/")
    return unit(embedding)[:, None], {k.removesuffix("/__call__"): np.asarray(v[0]) for k, v in inner.items()}


@CASES
def test_text(case):
    tower, _, params, _ = load(case)
    token, inner = run(tower, params["text"], case.inputs("text")["ids"])
    case.check("text/token", token)
    case.check("text/last_hidden", inner["norm"])
    for layer in range(tower.config.layers):
        case.check(f"text/inter/text_model.encoder.layers.{layer}", inner[f"layer_{layer}"])


@CASES
@pytest.mark.parametrize("kind", ["image", "video"])
def test_vision(case, kind):
    _, tower, params, _ = load(case)
    pixels = np.moveaxis(case.inputs(kind)["pixel_values"], -3, -1)
    token, inner = run(tower, params["vision"], pixels)
    case.check(f"{kind}/token", token)
    case.check(f"{kind}/pooled", inner["norm"])
    case.check(f"{kind}/inter/vision_model.pre_layrnorm", inner["norm_in"])
    for layer in range(tower.config.layers):
        name = f"{kind}/inter/vision_model.encoder.layers.{layer}"
        out = inner[f"layer_{layer}"].reshape(*pixels.shape[:-3], *inner["norm_in"].shape[1:])
        case.check(name, out)
        if kind == "video":  # [B T, L, C] → [B L, T, C]
            mixed = np.moveaxis(inner[f"layer_{layer}/temporal"].reshape(out.shape), 1, 2)
            case.check(f"{name}.temporal_self_attn", mixed.reshape(-1, *mixed.shape[2:]))


@CASES
def test_weights_convert_back_exactly(case):
    *_, params, weights = load(case)
    check_weights_return(params, weights, interop.RULES, interop.IGNORE)
