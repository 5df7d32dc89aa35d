"""The release's audio tower at its real size, and structures that are not supported."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from codi_jax.config import ConfigError
from codi_jax.encoders.clap import CLAPAudio
from codi_jax.interop.clap import IGNORE, RULES, config
from codi_jax.interop.names import NamesError, from_release, to_release

LARGE = {
    "config": {"mel_bins": 64},
    "spec_size": 256,
    "patch_size": 4,
    "patch_stride": [4, 4],
    "embed_dim": 256,
    "depths": [2, 2, 12, 2],
    "num_heads": [4, 8, 16, 32],
    "window_size": 8,
}


def shapes(fields, projection):
    tower = CLAPAudio(config(fields, projection))
    example = jax.ShapeDtypeStruct((1, 4, fields["config"]["mel_bins"]), jnp.float32)
    return jax.eval_shape(tower.init, jax.random.key(0), example)["params"]


def test_the_real_tower_has_the_keys_and_parameters_of_the_release():
    """292 keys, 280,951,959 parameters; less 27 recomputed buffers, plus mel statistics, less two unread heads."""
    target = shapes(LARGE, 768)
    unread = (527 * 2048 * 2 * 3 + 527) + (527 * 527 + 527) + 2 * (768 * 768 + 768)
    assert sum(np.prod(leaf.shape) for leaf in jax.tree.leaves(target)) == 280_951_959 + 2 * 64 - unread
    stub = jax.tree.map(lambda leaf: np.broadcast_to(np.float32(0), (1,) * len(leaf.shape)), target)
    assert len(to_release(stub, RULES)) == 292 - 27 - 8


def test_only_recomputed_and_unread_keys_are_ignored():
    small = {**LARGE, "embed_dim": 8, "depths": [1, 2], "num_heads": [1, 2]}
    target = shapes(small, 5)
    state = to_release(jax.tree.map(lambda leaf: np.ones(leaf.shape, np.float32), target), RULES)
    block = "audio_branch.layers.1.blocks.1."
    ignored = [
        block + "attn_mask",
        block + "attn.relative_position_index",
        "audio_branch.bn0.num_batches_tracked",
        "audio_branch.spectrogram_extractor.stft.conv_real.weight",
        "audio_branch.logmel_extractor.melW",
        "audio_branch.tscam_conv.weight",
        "audio_branch.head.bias",
        "audio_transform.sequential.3.bias",
    ]
    tree = from_release(state | dict.fromkeys(ignored, np.ones(1)), RULES, target, IGNORE)
    assert jax.tree.map(np.shape, tree) == jax.tree.map(lambda leaf: leaf.shape, target)
    for name in ("audio_branch.bn0.running_std", block + "attn.relative_position_bias", "audio_branch.heads.bias"):
        with pytest.raises(NamesError, match=f"unexpected: {name}"):
            from_release({**state, name: np.ones(1)}, RULES, target, IGNORE)
    del state["audio_branch.bn0.running_var"]
    with pytest.raises(NamesError, match=r"missing: audio_branch\.bn0\.running_var \(our norm_mel/var\)"):
        from_release(state, RULES, target, IGNORE)


def test_unsupported_structures_are_refused():
    assert config({**LARGE, "ape": False, "mlp_ratio": 2.0}, 768).mlp_ratio == 2
    for name, value in {"ape": True, "norm_before_mlp": "bn", "enable_fusion": True}.items():
        with pytest.raises(ConfigError, match=f"{name}=.* is not supported"):
            config({**LARGE, name: value}, 768)
