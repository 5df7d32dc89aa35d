"""Presets: models of known sizes, and the recipes that train them, as typed configs.

`CoDi.from_preset(name, …)` builds a model, `codi_jax.presets.NAME.run(…)` is the config of a whole run. The files in
`configs/` are what the command line reads: a preset, and what an argument changes of it.
"""

from codi_jax.codi import PRESETS

__all__ = ["PRESETS", "names"]


def names() -> tuple[str, ...]:
    """The names of all presets, which `CoDi.from_preset` takes."""
    return tuple(PRESETS)
