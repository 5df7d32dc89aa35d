"""CoDi (Composable Diffusion) in JAX.

    import codi_jax

    pipe = codi_jax.load("digit_world")
    out = pipe({"text": "a red seven moving left"}, to=("image", "audio", "video"), n=4, seed=0)

Names are imported when they are first used, so that importing the package imports neither jax nor numpy.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from codi_jax import presets
    from codi_jax.codi import CoDi
    from codi_jax.condition import Condition
    from codi_jax.diffusion.guidance import ClassifierFreeGuidance, Guidance
    from codi_jax.loading import load
    from codi_jax.media.audio import Audio
    from codi_jax.output import Output
    from codi_jax.pipeline import Pipeline
    from codi_jax.registry import register

__version__ = "0.2.0"
__all__ = [
    "Audio",
    "ClassifierFreeGuidance",
    "CoDi",
    "Condition",
    "Guidance",
    "Output",
    "Pipeline",
    "__version__",
    "load",
    "presets",
    "register",
]

_MODULES = {
    "Audio": "codi_jax.media.audio",
    "ClassifierFreeGuidance": "codi_jax.diffusion.guidance",
    "CoDi": "codi_jax.codi",
    "Condition": "codi_jax.condition",
    "Guidance": "codi_jax.diffusion.guidance",
    "Output": "codi_jax.output",
    "Pipeline": "codi_jax.pipeline",
    "load": "codi_jax.loading",
    "register": "codi_jax.registry",
}


def __getattr__(name: str) -> Any:
    if name == "presets":  # a package, which the import makes an attribute
        return importlib.import_module("codi_jax.presets")
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(importlib.import_module(_MODULES[name]), name)
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
