"""CoDi on three views of a digit and the labels of its digit and its quadrant; the recipe is in `recipe.py`.

The views share a codec, whose latents have a quarter of the sides of the view and 8 channels; every other network
belongs to one modality. Views of other sizes than 32 have the same networks with more positions.
"""

from codi_jax.codi import CoDiConfig
from codi_jax.encoders.autokl import AutoKLConfig
from codi_jax.encoders.clip import CLIPVisionConfig
from codi_jax.modalities.image import ImageConfig
from codi_jax.nn.environment import EnvironmentConfig
from codi_jax.nn.unet import UNetConfig
from codi_jax.polymnist import LABELS, VIEWS, LabelCodecConfig, LabelConfig, LabelTowerConfig

WIDTH = 64  # D, the prompt space
CHANNELS = 8  # of the latent of a view
LABEL_LATENT = 16


def view(side: int) -> ImageConfig:
    """`config.model.modalities.view_k`, of `side` pixels."""
    return ImageConfig(
        size=side,
        codec=AutoKLConfig(
            in_channels=3, patch=4, channels=64, mult=(1,), blocks=2, z_channels=CHANNELS, embed_dim=CHANNELS,
            groups=8, mid_attention=False,
        ),
        prompt=CLIPVisionConfig(
            image_size=side, patch=16, stem=(32, 64, 128, 128), width=64, layers=1, heads=4, feed_forward=128,
            projection=WIDTH,
        ),
        denoiser=UNetConfig(
            kind="spatial", latent_channels=CHANNELS, channels=40, groups=8, context_width=WIDTH, multipliers=(1, 2),
            blocks=(1, 1), attention_levels=(False, True), cross_modal_levels=(False, True), heads=4,
        ),
        environment=EnvironmentConfig(
            kind="spatial", latent_channels=CHANNELS, channels=48, width=WIDTH, multipliers=(1, 2), blocks=(1, 1),
            groups=8,
        ),
    )  # fmt: skip


def label() -> LabelConfig:
    """`config.model.modalities.digit` and `.quadrant`."""
    return LabelConfig(
        codec=LabelCodecConfig(LABEL_LATENT),
        prompt=LabelTowerConfig(WIDTH),
        denoiser=UNetConfig(
            kind="vector", latent_channels=LABEL_LATENT, channels=64, groups=8, context_width=WIDTH, multipliers=(1,),
            blocks=(1,), attention_levels=(True,), cross_modal_levels=(True,), heads=4,
        ),
        environment=EnvironmentConfig(
            kind="vector", latent_channels=LABEL_LATENT, channels=64, width=WIDTH, multipliers=(1, 2), blocks=(1, 1),
            groups=8,
        ),
    )  # fmt: skip


def model(side: int = 32) -> CoDiConfig:
    """The model, for views of `side` pixels, a multiple of 16."""
    return CoDiConfig(
        modalities={**{name: view(side) for name in VIEWS}, **{name: label() for name in LABELS}},
        width=WIDTH,
        prediction="x0",
        schedule="cosine",
    )
