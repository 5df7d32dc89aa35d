"""Files of other projects are detected by their keys; every key is read or ignored for a reason."""

import dataclasses
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import traverse_util

from codi_jax.config import ConfigError
from codi_jax.encoders.autokl import AutoKL, AutoKLConfig
from codi_jax.interop import autokl, unet
from codi_jax.interop.diffusers_names import autokl_rules, unet_rules
from codi_jax.interop.families import FAMILIES, read, recognise
from codi_jax.interop.names import NamesError
from codi_jax.nn.config import UNetConfig
from tests.interop import cases, files
from tests.interop.cases import CONFIGS, FILES


def load(name):
    """The family of a file, random tensors, and component -> pattern of the leaves that it does not hold."""
    family, shapes, missing = FILES[name]
    return FAMILIES[family], files.filled(shapes()), missing


def flat(tree):
    return traverse_util.flatten_dict(tree, sep="/")


@pytest.mark.parametrize("name", FILES)
def test_every_file_is_detected_and_read_completely(name):
    """Reading is strict, so every key is a leaf or ignored for a reason; missing leaves are those of the family."""
    family, state, missing = load(name)
    assert recognise(state) is family
    found, ignored = read(family, state, CONFIGS, cases.targets())
    assert found.keys() == missing.keys()
    for component, part in found.items():
        leaves = flat(cases.targets()[component]).keys()
        expected = {path for path in leaves if re.match(missing[component], path)}
        assert set(part.missing) == expected
        assert flat(part.tree).keys() == leaves - expected
    assert all(len(why.split()) > 2 for why in ignored.values())


def test_every_family_has_a_file_and_a_unique_name():
    assert {family for family, _, _ in FILES.values()} == set(range(len(FAMILIES)))
    assert len({family.name for family in FAMILIES}) == len(FAMILIES)


@pytest.mark.parametrize("name", FILES)
def test_unexpected_and_missing_keys_are_named(name):
    family, state, _ = load(name)
    with pytest.raises(NamesError, match=r"strange\.weight"):
        read(family, state | {f"{family.root(state)}strange.weight": np.ones(1, np.float32)}, CONFIGS, cases.targets())
    # A bias, since no family is detected by one.
    _, ignored = family.split(state)
    key = [k for k in state if k.endswith("bias") and not any(k.endswith(a) for a in ignored)][-1]
    del state[key]
    with pytest.raises(NamesError, match="missing: "):
        read(family, state, CONFIGS, cases.targets())


def test_components_that_the_model_does_not_have_are_ignored():
    family, state, _ = load("SD")
    shapes = {k: v for k, v in cases.targets().items() if k != "clip_text"}
    found, ignored = read(family, state, CONFIGS, shapes)
    assert found.keys() == {"vision_unet", "vision_codec"}
    key = "cond_stage_model.transformer.text_model.final_layer_norm.bias"
    assert ignored[key] == "of clip_text, which this model does not have or --only leaves out"


def test_training_state_is_ignored():
    family, state, _ = load("CLAP, LAION")
    assert "training state" in read(family, state, CONFIGS, cases.targets())[1]["optimizer.state.0.exp_avg"]


def test_only_joined_and_fused_arrays_are_copied():
    copied = {}
    for name in FILES:
        family, state, _ = load(name)
        found, _ = read(family, state, CONFIGS, cases.targets(), cast=False)
        leaves = [leaf for part in found.values() for leaf in flat(part.tree).values()]
        copied[name] = sum(not any(np.shares_memory(leaf, array) for array in state.values()) for leaf in leaves)
    kernels = sum(len(shape) == 3 for shape in cases.GAN.values())
    blocks = 3
    assert {name: n for name, n in copied.items() if n} == {
        "CLAP": 2 * blocks,
        "HiFi-GAN": kernels,
        "HiFi-GAN, transformers": kernels,
    }


def test_queries_keys_and_values_are_joined_in_that_order():
    family, state, _ = load("CLAP")
    tree = read(family, state, CONFIGS, cases.targets())[0]["clap_audio"].tree
    name = "audio_model.audio_encoder.layers.1.blocks.0.attention.self."
    pairs = [(state[f"{name}{part}.weight"], state[f"{name}{part}.bias"]) for part in ("query", "key", "value")]
    qkv = tree["stage_1_block_0"]["attention"]["qkv"]
    np.testing.assert_array_equal(qkv["kernel"], np.concatenate([weight.T for weight, _ in pairs], axis=1))
    np.testing.assert_array_equal(qkv["bias"], np.concatenate([bias for _, bias in pairs]))
    del state[f"{name}key.bias"]
    with pytest.raises(NamesError, match=r"unexpected: audio_branch\.layers\.1\.blocks\.0\.attn\.query\.bias"):
        read(family, state, CONFIGS, cases.targets())


def test_weight_norms_are_fused():
    family, state, _ = load("HiFi-GAN, transformers")
    tree = read(family, state, CONFIGS, cases.targets())[0]["vocoder"].tree
    g, v = (state[f"upsampler.1.parametrizations.weight.original{n}"].astype(np.float64) for n in (0, 1))
    kernel = g * v / np.linalg.norm(v.reshape(len(v), -1), axis=1)[:, None, None]
    np.testing.assert_allclose(tree["up_1"]["kernel"], kernel[:, :, ::-1].transpose(2, 0, 1), rtol=1e-6)


def test_a_vocoder_that_normalizes_its_spectrogram_is_refused():
    family, state, _ = load("HiFi-GAN, transformers")
    neutral = {"mean": np.zeros(4, np.float32), "scale": np.ones(4, np.float32)}
    assert {"mean", "scale"} <= read(family, state | neutral, CONFIGS, cases.targets())[1].keys()
    for name in neutral:
        other = {**state, **neutral, name: np.full(4, 2, np.float32)}
        with pytest.raises(ConfigError, match=f"{name}: this vocoder normalizes"):
            read(family, other, CONFIGS, cases.targets())


def test_the_unet_of_stable_diffusion_2_is_refused():
    family, state, _ = load("U-Net")
    key = "mid_block.attentions.0.proj_in.weight"
    state[key] = state[key][..., 0, 0]
    with pytest.raises(ConfigError, match=rf"{re.escape(key)}: a matrix, as in the U-Net of Stable Diffusion 2"):
        read(family, state, CONFIGS, cases.targets())


def test_a_smaller_vocabulary_gives_the_first_rows():
    family, state, _ = load("GPT-2")
    found = read(family, state, CONFIGS, cases.targets())[0]["text_codec"]
    assert found.rows == {"decoder/token/embedding": 13}
    np.testing.assert_array_equal(found.tree["decoder"]["token"]["embedding"], state["wte.weight"])
    head = {"lm_head.weight": state["wte.weight"]}
    read(family, state | head, CONFIGS, cases.targets())
    with pytest.raises(NamesError, match=r"untied: decoder\.lm_head\.weight"):
        read(family, state | {"lm_head.weight": head["lm_head.weight"] + 1}, CONFIGS, cases.targets())
    for rows, message in ((16, None), (17, r"wte\.weight \(17, 8\), expected \(16, 8\)")):
        state["wte.weight"] = np.ones((rows, 8), np.float32)
        if message is None:
            assert not read(family, state, CONFIGS, cases.targets())[0]["text_codec"].rows
        else:
            with pytest.raises(NamesError, match=message):
                read(family, state, CONFIGS, cases.targets())


def test_bert_and_gpt2_hold_disjoint_leaves_of_the_text_codec():
    halves = [read(*load(name)[:2], CONFIGS, cases.targets())[0]["text_codec"] for name in ("BERT", "GPT-2")]
    assert not flat(halves[0].tree).keys() & flat(halves[1].tree).keys()
    in_neither = set(halves[0].missing) & set(halves[1].missing)
    assert in_neither == {"moments/kernel", "decoder/memory/kernel", "decoder/latent/kernel"}


def test_unsupported_files_are_refused_with_a_reason():
    with pytest.raises(
        ConfigError, match=r"unknown layout \(a, b, …\)\. Supported are .*BERT.*: docs/weights\.md$"
    ) as error:
        recognise(["a", "b"])
    assert len(str(error.value)) < 250
    with pytest.raises(ConfigError, match="no tensor at all"):
        recognise([])
    for name, key in {
        "CLAP": "audio_model.audio_encoder.patch_embed.fusion_model.local_att.0.weight",
        "CLAP, LAION": "state_dict.module.audio_branch.patch_embed.mel_conv2d.weight",
    }.items():
        shown = re.escape(key.removeprefix("state_dict.module."))
        with pytest.raises(ConfigError, match=f"{shown}: CLAP with fusion of several views"):
            recognise([*load(name)[1], key])
    family, state, _ = load("BERT, older")
    with pytest.raises(ConfigError, match=r"pooler\.dense\.bias: the file has this tensor twice"):
        read(family, state | {"pooler.dense.bias": state["bert.pooler.dense.bias"]}, CONFIGS, cases.targets())


SD15 = UNetConfig(kind="spatial", latent_channels=4, channels=320, context_width=768, temporal=True)
SD15_CODEC = AutoKLConfig(in_channels=3, channels=128, mult=(1, 2, 4, 4), blocks=2, z_channels=4, embed_dim=4)


def test_stable_diffusion_at_its_real_size():
    """686 and 248 tensors, 859,520,964 and 83,653,863 parameters, in the original and the diffusers layout."""
    config = dataclasses.replace(SD15, temporal=False)
    networks = {
        (686, 859_520_964): (cases.unet_shapes(config), unet.body_rules(config), unet_rules(SD15)),
        (248, 83_653_863): (
            cases.traced(AutoKL(SD15_CODEC), jnp.zeros((1, 8, 8, 3))),
            autokl.RULES,
            autokl_rules(SD15_CODEC),
        ),
    }
    expected = [files.diffusers_unet(), files.diffusers_autokl()]
    for ((keys, numbers), (shapes, original, diffusers)), theirs in zip(networks.items(), expected, strict=True):
        assert sum(np.prod(leaf.shape) for leaf in jax.tree.leaves(shapes)) == numbers
        assert len(cases.their_shapes(original, shapes)) == keys
        assert cases.their_shapes(diffusers, shapes) == theirs


def test_a_vector_unet_is_refused_by_the_diffusers_table():
    with pytest.raises(ConfigError, match="kind: diffusers' U-Net is spatial"):
        unet_rules(dataclasses.replace(SD15, kind="vector", temporal=False))
