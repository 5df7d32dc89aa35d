"""One file a modality; the registry is all that the rest of the package knows of them."""

from codi_jax.modalities.base import ROLES, Modality, Shared, Variables
from codi_jax.modalities.image import Image
from codi_jax.modalities.text import Text

REGISTRY: dict[str, type[Modality]] = {cls.name: cls for cls in (Text, Image)}

__all__ = ["REGISTRY", "ROLES", "Modality", "Shared", "Variables"]
