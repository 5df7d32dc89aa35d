"""The modalities, one file each. Other packages find them by name in the registry."""

from codi_jax.modalities.audio import Audio
from codi_jax.modalities.base import ROLES, Modality, ModelDims, Variables
from codi_jax.modalities.image import Image
from codi_jax.modalities.text import Text
from codi_jax.modalities.video import Video

REGISTRY: dict[str, type[Modality]] = {cls.name: cls for cls in (Text, Image, Audio, Video)}

__all__ = ["REGISTRY", "ROLES", "Modality", "ModelDims", "Variables"]
