"""Files of adapters: the keys and shapes that diffusers, PEFT and kohya's scripts write, by hand; round trips; damage.

Names and shapes are those of diffusers 0.36: `loaders/lora_pipeline.py`, `utils/state_dict_utils.py`.
"""

import json
import re
import struct

import jax
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from codi_jax.config import ConfigError
from codi_jax.interop import lora as files
from codi_jax.nn import lora
from codi_jax.parallel import paths
from tests import toy
from tests.interop import paper

QUERY = "vision_unet/inputs_1/attend/self/query"
BLOCK = "down_blocks.0.attentions.0.transformer_blocks.0"
RANK = 2
# Our layer -> MODULE and the shapes of A and B in files, written by hand.
PUBLIC = {
    QUERY: (f"unet.{BLOCK}.attn1.to_q", (2, 64), (64, 2)),
    "vision_unet/inputs_1/attend/cross/key": (f"unet.{BLOCK}.attn2.to_k", (2, 24), (64, 2)),
    "vision_unet/inputs_1/attend/cross/out": (f"unet.{BLOCK}.attn2.to_out.0", (2, 64), (64, 2)),
    "vision_unet/inputs_1/attend/feed_forward/layer_in": (f"unet.{BLOCK}.ff.net.0.proj", (2, 64), (512, 2)),
    "vision_unet/inputs_1/attend/project_in": ("unet.down_blocks.0.attentions.0.proj_in", (2, 64, 1, 1), (64, 2, 1, 1)),
    "vision_unet/inputs_1/residual/layer_in": ("unet.down_blocks.0.resnets.0.conv1", (2, 64, 3, 3), (64, 2, 1, 1)),
    "vision_unet/inputs_0/stem": ("unet.conv_in", (2, 4, 3, 3), (64, 2, 1, 1)),
    "vision_unet/middle/attend/self/value": (
        "unet.mid_block.attentions.0.transformer_blocks.0.attn1.to_v",
        (2, 64),
        (64, 2),
    ),
    "clip_text/layer_0/query": ("text_encoder.text_model.encoder.layers.0.self_attn.q_proj", (2, 16), (16, 2)),
    "clip_text/layer_0/fc1": ("text_encoder.text_model.encoder.layers.0.mlp.fc1", (2, 16), (32, 2)),
}
OWN = {
    "vision_cross/inputs_1/self/query": ("vision_cross.inputs_1.self.query", (2, 64), (64, 2)),
    "vision_unet/inputs_1/temporal/frame_shift/conv": (
        "vision_unet.inputs_1.temporal.frame_shift.conv",
        (2, 64, 3, 3),
        (64, 2, 1, 1),
    ),
    "vocoder/conv_in": ("vocoder.conv_in", (2, 64, 7), (64, 2, 1)),
}


def model():
    return paper.codi()


def adapters(*layers, alpha=0.0, rank=RANK):
    """Adapters of these layers, all of `PUBLIC` and `OWN` if none is given, with nonzero B."""
    layers = layers or (*PUBLIC, *OWN)
    codi = model()
    shapes = {layer.split("/")[0]: codi.shapes(layer.split("/")[0]) for layer in layers}
    tree = lora.init(jax.random.key(0), shapes, {f"{layer}/kernel": rank for layer in layers}, alpha)
    rng = np.random.default_rng(0)
    flat = {
        path: rng.standard_normal(x.shape).astype(np.float32) if path.endswith("lora_b") else np.asarray(x)
        for path, x in paths.flatten(tree).items()
    }
    return paths.nest(flat)


def test_names_and_shapes_of_what_is_written(tmp_path):
    assert files.write(model(), adapters(), tmp_path / files.NAME) == 2 * len(PUBLIC | OWN)
    expected = {}
    for module, a, b in (PUBLIC | OWN).values():
        expected |= {f"{module}.lora_A.weight": a, f"{module}.lora_B.weight": b}
    assert {key: x.shape for key, x in load_file(tmp_path / files.NAME).items()} == expected


def test_the_product_is_that_of_the_matrices_in_the_file():
    """For a linear layer and a convolution as PyTorch computes them: weight [O, I, …] += B A."""
    conv = "vision_unet/inputs_1/residual/layer_in"
    tree = adapters(QUERY, conv, alpha=1.0)
    state, flat = files.to_state(model(), tree), paths.flatten(tree)
    for layer in (QUERY, conv):
        module = PUBLIC[layer][0]
        a, b = state[f"{module}.lora_A.weight"], state[f"{module}.lora_B.weight"]
        theirs = np.einsum("or,ri...->oi...", b.reshape(b.shape[:2]), a)
        ours = np.asarray(lora.delta(*(np.asarray(flat[f"{layer}/{leaf}"]) for leaf in lora.LEAVES)))
        axes = (1, 0) if ours.ndim == 2 else (3, 2, 0, 1)
        np.testing.assert_allclose(theirs, ours.transpose(axes), rtol=1e-5, atol=1e-7)


def test_a_file_is_read_back(tmp_path):
    tree = adapters()
    files.write(model(), tree, tmp_path / "x.safetensors")
    assert toy.same(files.read(model(), tmp_path / "x.safetensors"), tree)
    files.write(model(), adapters(alpha=6.0), tmp_path / "x.safetensors")
    back = files.read(model(), tmp_path / "x.safetensors")
    for path, x in paths.flatten(back).items():  # alpha / r = 3 is in B
        expected = paths.flatten(tree)[path]
        np.testing.assert_allclose(x, 3 * expected if path.endswith("lora_b") else expected, rtol=1e-6)


SPELLINGS = {
    "diffusers, lora": lambda module, side: f"{module}.lora.{'down' if side == 'A' else 'up'}.weight",
    "diffusers, text encoder": lambda m, side: f"{m}.lora_linear_layer.{'down' if side == 'A' else 'up'}.weight",
    "kohya": lambda module, side: (
        f"lora_{module.replace('text_encoder', 'te').replace('.', '_')}.lora_{'down' if side == 'A' else 'up'}.weight"
    ),
    "PEFT": lambda module, side: f"base_model.model.{module.split('.', 1)[1]}.lora_{side}.weight",
}


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_other_spellings_are_read(tmp_path, spelling):
    tree = adapters(*PUBLIC)
    state = {}
    for key, x in files.to_state(model(), tree).items():
        module, side = re.fullmatch(r"(.*)\.lora_([AB])\.weight", key).groups()
        state[SPELLINGS[spelling](module, side)] = x
    save_file(state, tmp_path / "x.safetensors")
    if spelling == "PEFT":
        with pytest.raises(ConfigError, match=r"x\.safetensors: a file of PEFT needs its adapter_config\.json beside"):
            files.read(model(), tmp_path / "x.safetensors")
        (tmp_path / "adapter_config.json").write_text(json.dumps({"r": 2, "lora_alpha": 2}))
    assert toy.same(files.read(model(), tmp_path / "x.safetensors"), tree)


def alpha_of(tree):
    return float(paths.flatten(tree)[f"{QUERY}/lora_alpha"])


def test_alpha_is_that_of_a_tensor_of_the_header_or_of_the_settings(tmp_path):
    path, module = tmp_path / "x.safetensors", PUBLIC[QUERY][0]
    state = files.to_state(model(), adapters(QUERY))
    metadata = {files.METADATA: json.dumps({"unet.r": 2, "unet.lora_alpha": 16, "unet.target_modules": ["to_q"]})}
    save_file(state, path, metadata)
    assert alpha_of(files.read(model(), path)) == 16
    save_file(state, path, {files.METADATA: json.dumps({"text_encoder.lora_alpha": 16})})
    assert alpha_of(files.read(model(), path)) == RANK
    save_file({**state, f"{module}.alpha": np.array(5, np.float32)}, path, metadata)
    assert alpha_of(files.read(model(), path)) == 5
    save_file({key.replace("unet.", "base_model.model."): x for key, x in state.items()}, path)
    (tmp_path / "adapter_config.json").write_text(json.dumps({"r": 2, "lora_alpha": 8.0, "alpha_pattern": {}}))
    assert alpha_of(files.read(model(), path)) == 8


@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_a_half_precision_file_becomes_float32(tmp_path, dtype):
    state = {key: x.astype(dtype) for key, x in files.to_state(model(), adapters()).items()}
    save_file(state, tmp_path / "x.safetensors")
    assert {x.dtype for x in jax.tree.leaves(files.read(model(), tmp_path / "x.safetensors"))} == {np.dtype("float32")}


A, B = f"{PUBLIC[QUERY][0]}.lora_A.weight", f"{PUBLIC[QUERY][0]}.lora_B.weight"


def ones(*shape):
    return np.ones(shape, np.float32)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {A.replace("to_q", "to_w"): ones(2, 64)},
            f"{A.replace('to_q', 'to_w')} is no adapter of a layer of this model (did you mean {A[:-15]}",
        ),
        ({"x" * 500: ones(2)}, f"{'x' * 100}… is no adapter of a layer of this model"),
        ({A.replace("lora_A.weight", "lora_magnitude_vector"): ones(2)}, "is no adapter of a layer of this model"),
        ({B.replace("weight", "bias"): ones(2)}, "is no adapter of a layer of this model"),
        ({B: None}, f"the adapter of {QUERY} lacks B"),
        ({A: ones(2, 64, 1)}, f"{A} [2, 64, 1] does not have the layout of {QUERY}"),
        ({A: ones(2, 63)}, f"adapters: {QUERY} has A [63, 2] and B [2, 64] for a kernel [64, 64]"),
        ({A: ones(3, 64)}, f"adapters: {QUERY} has A [64, 3] and B [2, 64] for a kernel [64, 64]"),
        ({A: ones(65, 64), B: ones(64, 65)}, f"adapters: {QUERY} has rank 65 for a kernel [64, 64]"),
        ({A: ones(0, 64), B: ones(64, 0)}, f"adapters: {QUERY} has rank 0 for a kernel [64, 64]"),
        ({A: np.full((2, 64), np.nan, np.float32)}, f"{A}: expected finite numbers"),
        ({f"{A[:-14]}.alpha": ones(2)}, f"{A[:-14]}.alpha: expected one number"),
        (
            {f"lora_{A[:-14].replace('.', '_')}.lora_down.weight": ones(2, 64)},
            f"there are two adapters of {QUERY}",
        ),
    ],
)
def test_tensors_that_do_not_fit_are_named_in_one_short_line(tmp_path, changes, message):
    state = {A: ones(2, 64), B: ones(64, 2)} | changes
    save_file({key: x for key, x in state.items() if x is not None}, tmp_path / "x.safetensors")
    with pytest.raises(ConfigError, match=re.escape(message)) as error:
        files.read(model(), tmp_path / "x.safetensors")
    text = str(error.value).removeprefix(f"{tmp_path / 'x.safetensors'}: ")
    assert text != str(error.value) and "\n" not in text and len(text) < 300


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ("{", "the settings of its adapters are not JSON"),
        ("3", "the settings of its adapters are not JSON"),
        ("[" * 100_000, "the settings of its adapters are not JSON"),
        ('{"unet.lora_alpha": "16"}', "lora_adapter_metadata: lora_alpha is no positive number"),
        ('{"unet.lora_alpha": true}', "lora_adapter_metadata: lora_alpha is no positive number"),
        ('{"unet.lora_alpha": NaN}', "lora_adapter_metadata: lora_alpha is no positive number"),
        (
            '{"unet.lora_alpha": 2, "unet.use_rslora": true}',
            "lora_adapter_metadata: adapters with use_rslora are not supported",
        ),
        (
            '{"unet.lora_alpha": 2, "unet.alpha_pattern": {"(a+)+$": 1}}',
            "lora_adapter_metadata: adapters with alpha_pattern are not supported",
        ),
    ],
)
def test_settings_that_are_damaged_or_not_supported_are_refused(tmp_path, settings, message):
    save_file({A: ones(2, 64), B: ones(64, 2)}, tmp_path / "x.safetensors", {files.METADATA: settings})
    with pytest.raises(ConfigError, match=re.escape(message) + "$"):
        files.read(model(), tmp_path / "x.safetensors")


def test_other_files_are_refused(tmp_path):
    path = tmp_path / "x.safetensors"
    for content, message in (
        (b"PK\3\4" + bytes(100), "not a safetensors file; adapters are read from no other format"),
        (b"\x80\x02}q\x00.", "not a safetensors file; adapters are read from no other format"),
        (b"", "the file is empty"),
        (struct.pack("<Q", 40) + b'{"a":', "is damaged: its header reaches beyond its end"),
        (
            struct.pack("<Q", 23) + b'{"__metadata__": "x" } ' + bytes(8),
            "it has no tensors",
        ),
    ):
        path.write_bytes(content)
        with pytest.raises(ConfigError, match=rf"^{re.escape(str(path))}: {re.escape(message)}"):
            files.read(model(), path)
    with pytest.raises(ConfigError, match=r"absent: there is no such file$"):
        files.read(model(), tmp_path / "absent")


def test_metadata_that_are_no_strings_are_refused(tmp_path):
    header = b'{"__metadata__": {"a": 1}, "x": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}'
    (tmp_path / "x.safetensors").write_bytes(struct.pack("<Q", len(header)) + header + bytes(4))
    with pytest.raises(ConfigError, match="is damaged: its metadata are not strings by name"):
        files.read(model(), tmp_path / "x.safetensors")


def test_adapters_of_another_model_are_not_written():
    tree = adapters(QUERY)
    for other, message in (
        ({"nothing": tree["vision_unet"]}, "adapters: this model has no kernel nothing/"),
        ({}, "adapters: it has no adapter"),
    ):
        with pytest.raises(ConfigError, match=re.escape(message)):
            files.to_state(model(), other)
