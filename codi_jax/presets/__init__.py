"""Presets: models of known sizes, and the recipes that train them, as typed configs.

`CoDi.from_preset(name, …)` builds a model. A function `run(…)` gives the config of a whole run, such as
`codi_jax.presets.digit_world.recipe.run`. The files in `configs/` are what the command line reads: a preset, and what
an argument changes of it.
"""

from codi_jax.codi import PRESETS

__all__ = ["PRESETS", "names"]


def names() -> tuple[str, ...]:
    """The names of all presets, which `CoDi.from_preset` takes."""
    return tuple(PRESETS)
