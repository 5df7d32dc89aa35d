"""The settings of joint sampling."""

import dataclasses
from typing import Literal

from codi_jax.config import ConfigError, did_you_mean
from codi_jax.diffusion.guidance import ClassifierFreeGuidance
from codi_jax.diffusion.samplers import SAMPLERS, SPACINGS


@dataclasses.dataclass(frozen=True)
class GenerateConfig:
    """`config.generate`.

    Attributes:
      guidance: scales and interval by output modality; the defaults of `ClassifierFreeGuidance` for those not named.
      steps: sampling steps of each output; each is one call of its denoiser, or two with `heun` (but for the last).
      sampler: a name of `diffusion.samplers.SAMPLERS`. Of the ODE: `ddim`, `euler` (the same, in the form of flows),
        `heun`, `dpmpp_2m`, `unipc`, of rising order in the table above. With noise in every step: `ancestral` (ddim
        with eta = 1), `dpmpp_2m_sde`.
      eta: η of `ddim`, 0 to 1: the noise that it adds.
      spacing: a name of `diffusion.samplers.SPACINGS`: `trailing`; `release` for the timesteps of the CoDi release;
        `karras` and `log_snr` over real timesteps, see `diffusion.samplers.timesteps`.
      delay: output modality -> number of steps by which it starts after the others in joint generation; 0 if not named.
        The number of steps of an output stays the same.
      loop: `host`, `scan`, or `auto`: host on CPU, scan elsewhere.
    """

    guidance: dict[str, ClassifierFreeGuidance]
    steps: int = 25
    sampler: str = "ddim"
    eta: float = 0.0
    spacing: str = "trailing"
    delay: dict[str, int] = dataclasses.field(default_factory=dict)
    loop: Literal["auto", "host", "scan"] = "auto"

    def __post_init__(self):
        for field, known in (("sampler", SAMPLERS), ("spacing", SPACINGS)):
            if (name := getattr(self, field)) not in known:
                similar = did_you_mean(name, known)
                raise ConfigError(f"config.generate.{field}: {name!r} is none of {', '.join(known)}{similar}")
