"""The settings of joint sampling."""

import dataclasses
from typing import Literal

from codi_jax.config import ConfigError, config_class
from codi_jax.diffusion.guidance import ClassifierFreeGuidance
from codi_jax.diffusion.samplers import SAMPLERS


@config_class()
class GenerateConfig:
    """`config.generate`.

    Attributes:
      guidance: scales and interval by output modality; the defaults of `ClassifierFreeGuidance` for those not named.
      steps: sampling steps of each output; each is one call of its denoiser.
      sampler: a name of `diffusion.samplers.SAMPLERS`: `ddim`, `dpmpp_2m`.
      eta: η of DDIM, 0 to 1.
      spacing: `trailing`, or `release` for the timesteps of the CoDi release.
      delay: output modality -> number of steps by which it starts after the others in joint generation; 0 if not named.
        The number of steps of an output stays the same.
      loop: `host`, `scan`, or `auto`: host on CPU, scan elsewhere.
    """

    guidance: dict[str, ClassifierFreeGuidance]
    steps: int = 25
    sampler: str = "ddim"
    eta: float = 0.0
    spacing: Literal["trailing", "release"] = "trailing"
    delay: dict[str, int] = dataclasses.field(default_factory=dict)
    loop: Literal["auto", "host", "scan"] = "auto"

    def __post_init__(self):
        if self.sampler not in SAMPLERS:
            raise ConfigError(f"config.generate.sampler: {self.sampler!r} is none of {', '.join(SAMPLERS)}")
