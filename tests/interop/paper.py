"""The model of `configs/codi.py` at very small sizes, and its components on disk."""

import functools
from pathlib import Path
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from codi_jax.checkpoint import save_params
from codi_jax.codi import CoDi
from codi_jax.data.tokenizer import make_tokenizer
from codi_jax.interop import release
from configs import codi as paper
from tests import toy

D, E = 24, 40


def config(argument: str = "compat=release") -> ConfigDict:
    """The config of the run, with `dtype=float32` unless the argument sets another."""
    tree = paper.get_config(f"size=64,frames=2,dtype=float32,tokenizers=digit_world,{argument}")
    tree.model.update(width=D, environment_width=E)
    for name, parts in tree.model.modalities.items():
        parts.denoiser.update(channels=64, context_width=D, multipliers=(1, 1), blocks=(1, 1), heads=4)
        parts.denoiser.update(attention_levels=(True, False), cross_modal_levels=(True, False))
        parts.environment.update(channels=64, multipliers=(1, 1), blocks=(1, 1), width=E)
        if name != "text":
            parts.codec.update(channels=32, mult=(1, 1), blocks=1)
        if name in ("image", "video"):
            parts.prompt.update(image_size=16, patch=8, width=16, layers=1, heads=2, feed_forward=32, projection=D)
            parts.read_size = 64
        if name == "text":
            words = make_tokenizer("digit_world").size
            parts.codec.latent = 20
            parts.codec.encoder.update(vocab=words, width=16, layers=1, heads=2, feed_forward=32, positions=64)
            parts.codec.decoder.update(vocab=words, width=16, layers=1, heads=2, feed_forward=64, positions=32)
            parts.denoiser.latent_channels = parts.environment.latent_channels = 20
            parts.prompt.update(vocab=words, width=16, layers=1, heads=2, feed_forward=32, positions=77, projection=D)
        if name == "audio":
            parts.update(frames=64, prompt_samples=48_000)
            parts.prompt.update(
                spec_size=128, patch_size=8, patch_stride=(8, 8), embed_dim=8, depths=(1, 2), num_heads=(1, 2), window=4
            )
            parts.prompt.projection = D
            parts.vocoder.update(channels=64, res_kernels=(3,), res_dilations=((1, 3),))
    return tree


def codi(argument: str = "compat=release") -> CoDi:
    """The model, cached."""
    return _codi(argument)


@functools.lru_cache
def _codi(argument: str) -> CoDi:
    return CoDi.from_config(config(argument).model)


def components(model: CoDi, folder: Path, dtype: Any = np.float32, seed: int = 0) -> dict[str, Path]:
    """Saves random components with the release's constants; returns component -> its directory."""
    out = {}
    for component, tree in toy.params(model, seed).items():
        cast = jax.tree.map(lambda x: np.asarray(x).astype(dtype), tree)
        constants = release.constants(model, component)
        saved = {"params": {component: cast}, **({"constants": {component: constants}} if constants else {})}
        out[component] = folder / component
        save_params(str(out[component]), saved, {"components": [component]})
    return out
