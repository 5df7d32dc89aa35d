"""A request: a setting, the values that it uses, and what both are as arguments of a pipeline."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

from codi_jax.codi import CoDi
from codi_jax.condition import BEGINNING, Condition
from codi_jax.config import ConfigError
from codi_jax.sampling.given import Given
from codi_jax.serve.setting import Setting, Use

OVERHEAD = 5  # what prompts, codecs and files cost, in sampling steps


@dataclasses.dataclass(frozen=True, eq=False)
class PlaygroundRequest:
    """What a client asks for.

    Attributes:
      setting: see `Setting`; checked.
      values: modality -> raw value, of all that the setting uses.
      painted: modality -> what is generated anew, bool [H, W].
    """

    setting: Setting
    values: Mapping[str, Any]
    painted: Mapping[str, np.ndarray] = dataclasses.field(default_factory=dict)

    def arguments(self, codi: CoDi) -> dict[str, Any]:
        """The arguments of `Pipeline.__call__`.

        Raises:
          ConfigError: a value is missing, or the part of it that is kept cannot be.
        """
        setting = self.setting
        if missing := [name for name in setting.given if name not in self.values]:
            raise ConfigError(f"{', '.join(missing)}: give a file, which is not in a link; or do not use it")
        prompts = {
            name: self.values[name] for name, use in setting.given.items() if use.role == "prompt" and use.weight
        }
        hold = {name: self._condition(codi, name, use) for name, use in setting.given.items() if use.role != "prompt"}
        for name, condition in hold.items():
            Given.of(codi, name, condition, [self.values[name]])  # refuses now what the pipeline would later
        outputs = (*setting.to, *(name for name in hold if name not in setting.to))
        weighed = {name: use for name, use in setting.given.items() if name in prompts or name in hold}
        return {
            "prompts": prompts or None,
            "to": outputs,
            "n": setting.n,
            "seed": setting.seed,
            "weights": {name: use.weight for name, use in weighed.items() if use.role != "change"},
            "guidance": {name: scale for name, scale in setting.guidance.items() if name in outputs},
            "steps": setting.steps,
            "hold": hold,
        }

    def _condition(self, codi: CoDi, name: str, use: Use) -> Condition:
        value, painted = self.values[name], self.painted.get(name)
        if use.role == "whole":
            return Condition(value)
        if use.role == "part":
            keep = use.keep.strip() or (BEGINNING if codi[name].completes else None)
            if keep is None and painted is None:
                raise ConfigError(f"{name}: say which part is kept, or paint over what is generated")
            return Condition(value, keep=keep, mask=None if keep else painted)
        return Condition(value, mask=painted, strength=use.strength)

    def generated(self) -> tuple[str, ...]:
        """The outputs of which something is generated."""
        given = self.setting.given
        kept = [name for name, use in given.items() if use.role in ("part", "change")]
        whole = [name for name, use in given.items() if use.role == "whole"]
        return tuple(name for name in dict.fromkeys((*self.setting.to, *kept)) if name not in whole)

    def cost(self) -> float:
        """What it costs, in sampling steps of one output and one sample."""
        return self.setting.n * (self.setting.steps + OVERHEAD) * max(len(self.generated()), 1)
