"""polymnist: three views of one digit on different textures, and the labels of its digit and its quadrant.

A user of the library, like `digit_world`: it is a plugin, named in `config.plugins`, that registers a source and five
modalities. To import it is to register them.
"""

from codi_jax.polymnist.data import CARRIES, DIGITS, LABELS, MODALITIES, QUADRANTS, VIEWS, PolyMNIST, PolyMNISTConfig
from codi_jax.polymnist.modalities import LabelCodecConfig, LabelConfig, LabelTowerConfig

__all__ = [
    "CARRIES",
    "DIGITS",
    "LABELS",
    "MODALITIES",
    "QUADRANTS",
    "VIEWS",
    "LabelCodecConfig",
    "LabelConfig",
    "LabelTowerConfig",
    "PolyMNIST",
    "PolyMNISTConfig",
]
