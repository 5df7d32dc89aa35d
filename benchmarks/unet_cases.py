"""The network of `benchmarks.unet` and its inputs, without a framework.

The network is the vision U-Net of the preset `codi` without temporal layers: that of Stable Diffusion 1.x, of
859,520,964 parameters.
"""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np

GUIDANCE = 7.5


@dataclasses.dataclass(frozen=True)
class Options:
    """What both frameworks are given.

    Attributes:
      weights: a safetensors file in the layout of diffusers, which Theirs writes and Ours reads.
      pixels: per side of an image; a latent has an eighth of it.
      dtype: of computation, float32 or bfloat16. In bfloat16, the weights of forward and sampling have it too, and the
        gradient is that of float32 weights, as in training.
      device: cpu or gpu.
      tiny: a network of two levels and few channels instead, for a trial.
      channels_last: memory layout of the arrays in PyTorch.
      keep_freed_memory: as `codi-jax train` sets malloc; otherwise both processes have its defaults.
    """

    weights: Path = Path("unet.safetensors")
    pixels: int = 256
    dtype: str = "float32"
    device: str = "cpu"
    tiny: bool = False
    channels_last: bool = False
    keep_freed_memory: bool = False

    @property
    def network(self) -> dict[str, Any]:
        """The fields of `nn.config.UNetConfig` in which a tiny network differs from the preset's."""
        if not self.tiny:
            return {}
        return {
            "channels": 32, "context_width": 64, "multipliers": (1, 2), "blocks": (1, 1),
            "attention_levels": (True, False), "cross_modal_levels": (True, False),
        }  # fmt: skip

    @property
    def context_width(self) -> int:
        """D."""
        return self.network.get("context_width", 768)


@dataclasses.dataclass(frozen=True)
class Case:
    """One row.

    Attributes:
      measure: "forward"; "gradient", forward and backward of the loss ‖ε̂ - ε‖² / size over all parameters; or
        "sampling", DDIM with classifier-free guidance, two branches a step.
      batch: B.
      tokens: L of the context.
      steps: of sampling.
    """

    measure: str
    batch: int
    tokens: int
    steps: int = 1

    @property
    def calls(self) -> int:
        """What the seconds are divided by: 1, or the steps of sampling."""
        return self.steps if self.measure == "sampling" else 1


@dataclasses.dataclass(frozen=True)
class Inputs:
    """Random inputs, channels last: z, noise [B, H, W, 4]; t [B]; context, null [B, L, D]."""

    z: np.ndarray
    noise: np.ndarray
    t: np.ndarray
    context: np.ndarray
    null: np.ndarray


def make_inputs(options: Options, case: Case) -> Inputs:
    """The same for both frameworks."""
    rng = np.random.default_rng(case.batch)
    side = options.pixels // 8

    def normal(*shape: int) -> np.ndarray:
        return rng.standard_normal((case.batch, *shape), np.float32)

    z, noise = normal(side, side, 4), normal(side, side, 4)
    context, null = normal(case.tokens, options.context_width), normal(case.tokens, options.context_width)
    return Inputs(z, noise, rng.integers(0, 1000, case.batch, dtype=np.int32), context, null)
