"""The release's audio tower at its real size, and structures that it does not have."""

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


def test_the_real_tower_has_the_releases_keys_and_parameters():
    """292 keys, 280,951,959 parameters; less 27 recomputed buffers, more mel statistics, less two heads never read."""
    want = shapes(LARGE, 768)
    never_read = (527 * 2048 * 2 * 3 + 527) + (527 * 527 + 527) + 2 * (768 * 768 + 768)
    assert sum(np.prod(leaf.shape) for leaf in jax.tree.leaves(want)) == 280_951_959 + 2 * 64 - never_read
    stub = jax.tree.map(lambda leaf: np.broadcast_to(np.float32(0), (1,) * len(leaf.shape)), want)
    assert len(to_release(stub, RULES)) == 292 - 27 - 8


def test_only_what_is_recomputed_or_never_read_may_be_ignored():
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
    read = from_release(state | dict.fromkeys(ignored, np.ones(1)), RULES, target, IGNORE)
    assert jax.tree.map(np.shape, read) == jax.tree.map(lambda leaf: leaf.shape, target)
    for name in ("audio_branch.bn0.running_std", block + "attn.relative_position_bias", "audio_branch.heads.bias"):
        with pytest.raises(NamesError, match=f"unexpected: {name}"):
            from_release({**state, name: np.ones(1)}, RULES, target, IGNORE)
    del state["audio_branch.bn0.running_var"]
    with pytest.raises(NamesError, match=r"missing: audio_branch\.bn0\.running_var \(our norm_mel/var\)"):
        from_release(state, RULES, target, IGNORE)


def test_what_we_do_not_have_is_refused():
    assert config({**LARGE, "ape": False, "mlp_ratio": 2.0}, 768).mlp_ratio == 2
    for name, value in {"ape": True, "norm_before_mlp": "bn", "enable_fusion": True}.items():
        with pytest.raises(ConfigError, match=f"{name}: an audio tower with .* is not one of the public ones"):
            config({**LARGE, name: value}, 768)
