"""The conditions of a request: what users give of outputs, made ready for the sampler, and put into its results."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from codi_jax.codi import CoDi
from codi_jax.condition import Condition
from codi_jax.config import ConfigError
from codi_jax.sampling.held import Held


@dataclasses.dataclass(frozen=True)
class Given:
    """What is given of one output.

    Attributes:
      name: of the output.
      condition: as the user gave it.
      values: its raw values, one for all samples or one for each.
      kept: which part of each is kept, see `Modality.kept`; None for all or nothing.
      shown: the values without what is hidden, in whose place they are filled up: what codecs and prompt encoders see,
        for the latent of a kept cell depends on the surroundings of its pixels. An edit starts from all of the values,
        those of a mask's other side, too.
    """

    name: str
    condition: Condition
    values: Sequence[Any]
    kept: Sequence[np.ndarray] | None
    shown: Sequence[Any]

    @classmethod
    def of(cls, codi: CoDi, name: str, condition: Condition, values: Sequence[Any]) -> "Given":
        """Checks a condition.

        Args:
          codi: the model.
          name: of the output.
          condition: what is given of it.
          values: its raw values.

        Raises:
          ConfigError: the part that is kept cannot be, is nothing, or is everything.
        """
        if condition.begins and codi[name].completes:
            codi[name].beginnings(values)  # refuses what is too long
        if not condition.partial or (condition.begins and codi[name].completes):
            return cls(name, condition, values, None, values)
        masks = condition.mask if isinstance(condition.mask, list) else [condition.mask]
        if not masks or len(values) % len(masks):
            raise ConfigError(f"{name}: {len(masks)} masks for {len(values)} values; give one, or one for each")
        kept = [
            codi[name].kept(dataclasses.replace(condition, mask=masks[i * len(masks) // len(values)]), value)
            for i, value in enumerate(values)
        ]
        for part in kept:
            if part.all() or not part.any():
                how = "all of it is kept; leave out keep and mask" if part.all() else "no part of it is kept"
                raise ConfigError(f"{name}: {how}")
        shown = values
        if condition.strength is None:
            shown = [codi[name].filled(value, part) for value, part in zip(values, kept, strict=True)]
        return cls(name, condition, values, kept, shown)

    def held(self, codi: CoDi, z: np.ndarray) -> Held:
        """What the sampler keeps.

        Args:
          codi: the model.
          z: normalised latents of what is `shown`, [1 or n, *latent_shape].
        """
        condition = self.condition
        if condition.whole:
            return Held(z, share=0.0)
        strength = 1.0 if condition.strength is None else float(condition.strength)
        if self.kept is None:
            return Held(z, share=strength)
        mask = np.stack([codi[self.name].latent_mask(part) for part in self.kept])
        return Held(z, mask, strength, float(condition.reconstruction))

    @property
    def prompts(self) -> list[Any]:
        """What is kept, as raw prompts of the same modality, one or one for each sample; [] for an edit.

        At the noise level at which sampling decides what it makes, kept cells show little: they are as noisy as the
        others. And V of an output that is kept whole says what V has learnt to say, which is less than the prompt
        encoder. As a prompt it leads from the first step. An edit is led by what the user says.
        """
        if self.condition.strength is not None:
            return []
        return list(self.shown)

    def put_into(self, codi: CoDi, generated: Sequence[Any]) -> list[Any]:
        """The generated raw values with what is kept of the given ones."""
        values = list(self.values) * (len(generated) if len(self.values) == 1 else 1)
        if self.condition.whole:
            return values
        if self.condition.begins:
            return [codi[self.name].complete(of, value) for of, value in zip(generated, values, strict=True)]
        if self.kept is None:
            return list(generated)
        kept = list(self.kept) * (len(generated) if len(self.kept) == 1 else 1)
        join = codi[self.name].composite
        return [join(of, value, part) for of, value, part in zip(generated, values, kept, strict=True)]


def conditions(hold: Mapping[str, Any]) -> dict[str, Condition]:
    """The conditions of a request: a value that is no `Condition` is kept whole."""
    return {name: of if isinstance(of, Condition) else Condition(of) for name, of in hold.items()}


def encode(
    codi: CoDi, given: Mapping[str, Given], encoder: Callable[[str, Sequence[Any]], np.ndarray]
) -> dict[str, Held]:
    """Encodes what is given.

    Args:
      codi: the model.
      given: by output.
      encoder: (output, raw values) -> normalised latents.
    """
    return {name: of.held(codi, encoder(name, of.shown)) for name, of in given.items() if not of.condition.begins}
