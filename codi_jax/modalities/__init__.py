"""The modalities, one file each. Other packages find them by name in the registry."""

from codi_jax.modalities.base import MODALITIES, ROLES, Modality, ModelDims, Variables

__all__ = ["MODALITIES", "ROLES", "Modality", "ModelDims", "Variables"]
