"""The modalities, one file each. Other packages find them by name in the registry."""

from codi_jax.modalities.audio import AudioModality
from codi_jax.modalities.base import ROLES, Modality, ModelDims, Variables
from codi_jax.modalities.image import ImageModality
from codi_jax.modalities.text import TextModality
from codi_jax.modalities.video import VideoModality

REGISTRY: dict[str, type[Modality]] = {
    cls.name: cls for cls in (TextModality, ImageModality, AudioModality, VideoModality)
}

__all__ = ["REGISTRY", "ROLES", "Modality", "ModelDims", "Variables"]
