"""Chips: what one can compute, hold and send.

Peaks, memory and bandwidths are those of Google's pages on each chip (docs.cloud.google.com/tpu/docs/v5e, …/v5p, …/v6e,
…/tpu7x, read in 2026). Of its memory a program gets a little less; that figure is the TPU compiler's own, by which it
refuses what does not fit. The pages give the interconnect in both directions together; what a chip can receive is half.
"""

import dataclasses

import jax

from codi_jax.config import ConfigError

GIB = 2**30


@dataclasses.dataclass(frozen=True)
class Chip:
    """One kind of chip; everything is of a whole chip.

    Attributes:
      flops: bf16 operations a second.
      memory: bytes that a program can have.
      bandwidth: bytes a second between chip and its memory.
      interconnect: bytes a second that a chip receives from others.
      devices: how many devices it is to jax, which share it evenly.
      kinds: how jax names its devices.
    """

    flops: float
    memory: float
    bandwidth: float
    interconnect: float
    devices: int = 1
    kinds: tuple[str, ...] = ()


CHIPS = {  # as it is called in the name of a topology
    "v5e": Chip(197e12, 15.75 * GIB, 819e9, 200e9, kinds=("TPU v5 lite", "TPU v5e")),
    "v5p": Chip(459e12, 95.74 * GIB, 2765e9, 600e9, kinds=("TPU v5", "TPU v5p")),
    "v6e": Chip(918e12, 31.25 * GIB, 1600e9, 400e9, kinds=("TPU v6 lite", "TPU v6e")),
    "tpu7x": Chip(2307e12, 2 * 94.75 * GIB, 7380e9, 600e9, devices=2, kinds=("TPU7x",)),
}


def chip_of(topology: str) -> Chip:
    """The chip of a topology, 'v5e:4x4' for one.

    Raises:
      ConfigError: it is not known here.
    """
    name = topology.split(":")[0]
    if name not in CHIPS:
        raise ConfigError(f"topology {topology!r}: no chip {name!r}; there are {', '.join(CHIPS)}, as in 'v5e:4x4'")
    return CHIPS[name]


def utilisation(flops_per_second: float, devices: list[jax.Device]) -> float | None:
    """The part of their peak that devices are at; None if theirs is not known."""
    kind = devices[0].device_kind
    chip = next((chip for chip in CHIPS.values() if kind in chip.kinds), None)
    return flops_per_second / (chip.flops / chip.devices * len(devices)) if chip else None
