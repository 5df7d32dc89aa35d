"""The settings of joint sampling."""

import dataclasses
from typing import Literal

from codi_jax.diffusion.guidance import ClassifierFreeGuidance


@dataclasses.dataclass(frozen=True)
class GenerateConfig:
    """`config.generate`.

    Attributes:
      guidance: scales and interval by output modality; the defaults of `ClassifierFreeGuidance` for those not named.
      steps: sampling steps of each output; each is one call of its denoiser.
      sampler: `ddim` or `dpmpp_2m`.
      eta: η of DDIM, 0 to 1.
      spacing: `trailing`, or `release` for the timesteps of the CoDi release.
      delay: output modality -> number of steps by which it starts after the others in joint generation; 0 if not named.
        The number of steps of an output stays the same.
      loop: `host`, `scan`, or `auto`: host on CPU, scan elsewhere.
    """

    guidance: dict[str, ClassifierFreeGuidance]
    steps: int = 25
    sampler: Literal["ddim", "dpmpp_2m"] = "ddim"
    eta: float = 0.0
    spacing: Literal["trailing", "release"] = "trailing"
    delay: dict[str, int] = dataclasses.field(default_factory=dict)
    loop: Literal["auto", "host", "scan"] = "auto"
