"""The settings of joint sampling, and which sampler to choose.

Order of convergence on a Gaussian, where the solution is known (`tests/diffusion/test_samplers.py`), network calls of a
step, and noise:

    sampler        order  calls  noise
    ddim             1      1    η
    euler            1      1    none      ddim with η = 0, in the form of flows
    ancestral        1      1    always    ddim with η = 1
    heun             2      2    none      the last step has one call
    dpmpp_2m         2      1    none
    dpmpp_2m_sde     2      1    always
    unipc            3      1    none

Text to image with the packaged model, n = 64 (`python -m benchmarks.samplers`, which prints all samplers and spacings):
the fraction of images with the digit of the caption, and the root mean square error of their latents, whose standard
deviation is about 1, against the solution of the ODE. The columns are network calls.

    sampler       spacing   accuracy     3      5      9     19    error      3      5      9     19
    ddim          trailing           1.000  1.000  1.000  1.000         0.473  0.372  0.293  0.226
    ddim          log_snr            1.000  1.000  1.000  1.000         0.576  0.450  0.248  0.119
    ancestral     trailing           1.000  1.000  1.000  1.000             -      -      -      -
    heun          trailing           1.000  1.000  1.000  1.000         0.474  0.388  0.302  0.234
    heun          log_snr            0.000  0.203  0.984  1.000         2.120  1.449  0.406  0.092
    dpmpp_2m      trailing           1.000  1.000  1.000  1.000         0.465  0.350  0.269  0.198
    dpmpp_2m      log_snr            1.000  0.984  1.000  1.000         0.486  0.318  0.148  0.034
    dpmpp_2m_sde  trailing           1.000  1.000  1.000  1.000             -      -      -      -
    dpmpp_2m_sde  log_snr            0.984  0.969  0.938  1.000             -      -      -      -
    unipc         trailing           1.000  1.000  1.000  1.000         0.438  0.323  0.254  0.191
    unipc         log_snr            1.000  0.984  0.984  1.000         0.486  0.320  0.168  0.022

From three calls on, every sampler with `trailing` draws the right digits. But `trailing` has few timesteps near the
data and stays far from the solution of the ODE at any order; with `log_snr` the error at 19 calls falls with the order,
and is the smallest for `unipc`. At few calls `log_snr` costs accuracy, most with `heun`, whose second call divides by
the noise that is left, which is small after a long step.
"""

import dataclasses
from collections.abc import Iterable
from typing import Literal

from codi_jax.config import ConfigError, config_class, did_you_mean
from codi_jax.diffusion.guidance import ClassifierFreeGuidance
from codi_jax.diffusion.samplers import SAMPLERS, SPACINGS


@config_class()
class GenerateConfig:
    """`config.generate`.

    Attributes:
      guidance: scales and interval by output modality; the defaults of `ClassifierFreeGuidance` for those not named. An
        interval saves network evaluations outside of it, as scales of 0 and 1 do everywhere, see `diffusion.guidance`.
      steps: sampling steps of each output; each is one call of its denoiser, or two with `heun` (but for the last).
      sampler: a name of `diffusion.samplers.SAMPLERS`. Of the ODE: `ddim`, `euler` (the same, in the form of flows),
        `heun`, `dpmpp_2m`, `unipc`. With noise in every step: `ancestral` (ddim with eta = 1), `dpmpp_2m_sde`. The
        table above says which to choose.
      eta: η of `ddim`, 0 to 1: the noise that it adds.
      spacing: a name of `diffusion.samplers.SPACINGS`: `trailing`; `release` for the timesteps of the CoDi release;
        `karras` and `log_snr` over real timesteps, see `diffusion.samplers.timesteps`.
      delay: output modality -> number of steps by which it starts after the others in joint generation; 0 if not named.
        The number of steps of an output stays the same.
      environment: how the tokens of several other outputs become one environment: their `mean`, as in the paper, or
        `by_norm`, weighted by how much each knows; for models whose V is anchored to an embedding, see `codi_jax.codi`.
      environment_weights: modality -> how much its tokens count in the environment of another output, beside those of
        other modalities; 1 if not named. More for modalities that show more of what others show. A model of the
        release (compat: release), where no output reads another, refuses this and `by_norm`.
      loop: `host`, `scan`, or `auto`: host on CPU, scan elsewhere.
    """

    guidance: dict[str, ClassifierFreeGuidance]
    steps: int = 25
    sampler: str = "ddim"
    eta: float = 0.0
    spacing: str = "trailing"
    delay: dict[str, int] = dataclasses.field(default_factory=dict)
    environment: Literal["mean", "by_norm"] = "mean"
    environment_weights: dict[str, float] = dataclasses.field(default_factory=dict)
    loop: Literal["auto", "host", "scan"] = "auto"

    def __post_init__(self):
        for field, known in (("sampler", SAMPLERS), ("spacing", SPACINGS)):
            if (name := getattr(self, field)) not in known:
                similar = did_you_mean(name, known)
                raise ConfigError(f"config.generate.{field}: {name!r} is none of {', '.join(known)}{similar}")

    def complete(self, modalities: Iterable[str]) -> "GenerateConfig":
        """The same settings, which name the guidance, delay and weight of each of these modalities."""
        names = tuple(modalities)
        guidance = {**{name: ClassifierFreeGuidance() for name in names}, **self.guidance}
        delay = {**dict.fromkeys(names, 0), **self.delay}
        weights = {**dict.fromkeys(names, 1.0), **self.environment_weights}
        return dataclasses.replace(self, guidance=guidance, delay=delay, environment_weights=weights)

    def only(self, modalities: Iterable[str]) -> "GenerateConfig":
        """The settings of these modalities, complete, in this order, and of no others."""
        names = tuple(modalities)
        whole = self.complete(names)
        return dataclasses.replace(
            self,
            guidance={name: whole.guidance[name] for name in names},
            delay={name: whole.delay[name] for name in names},
            environment_weights={name: whole.environment_weights[name] for name in names},
        )
