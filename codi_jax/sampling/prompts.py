"""Warnings about prompts."""

import warnings
from collections.abc import Mapping, Sequence
from typing import Any

from codi_jax.codi import CoDi


class PromptWarning(UserWarning):
    """The model does not read all of a prompt: a word is outside its vocabulary, or there are too many."""


def warn_of_ignored(codi: CoDi, *groups: Mapping[str, Sequence[Any]], stacklevel: int = 3) -> None:
    """Warns of what a model does not read in prompts: raw values by modality."""
    for group in groups:
        for name, values in group.items():
            for line in codi[name].ignored(values):
                warnings.warn(line, PromptWarning, stacklevel=stacklevel)
