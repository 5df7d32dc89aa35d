"""CoDi at the paper's size, with the hyperparameters of the public release (`codi_jax.presets.codi`).

Reaches, with the public weights, what the authors' code does. The training recipe is that of the paper, for a pod
(docs/pods.md); its data are placeholders.

    codi-jax convert  --config=codi --out=weights CoDi_*.pth
    codi-jax generate --config=codi --config.weights=weights --text "a dog barks" --to image,audio --out d/
    codi-jax generate --config=codi:compat=release …      generates as the public code does
    codi-jax generate --config=codi:tokenizers=digit_world --random-weights …    runs without weights
"""

from ml_collections import ConfigDict

from codi_jax.config_utils import options_of, to_config_dict
from codi_jax.presets.codi_recipe import run


def get_config(argument: str = "") -> ConfigDict:
    """The run.

    `compat=release`; `loss=paper` for the paper's latent alignment; `modalities=text+image` for a subset; `size` in
    pixels per side, `frames` per video; `timed=True` for attention in time; `dtype` of computation; `tokenizers`, a
    folder with `clip` (as saved by transformers), `bert` and `gpt2` (their vocabulary files), or the name of one of our
    vocabularies, for use with random weights.
    """
    return to_config_dict(run(**options_of(argument, run)))
