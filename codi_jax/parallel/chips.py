"""Peak compute, memory and bandwidths of TPU chips.

Source: Google's page on each chip (docs.cloud.google.com/tpu/docs/v5e, …/v5p, …/v6e, …/tpu7x, read in 2026). A program
can use a little less than a chip's memory; `memory` is the limit at which the TPU compiler reports out of memory. The
pages give the interconnect bandwidth of both directions together; a chip can receive half of it.
"""

import dataclasses

from codi_jax.config import ConfigError
from codi_jax.types import Device

GIB = 2**30


@dataclasses.dataclass(frozen=True)
class Chip:
    """One kind of chip; all numbers are for a whole chip.

    Attributes:
      flops: bf16 operations per second.
      memory: bytes that a program can use.
      bandwidth: bytes per second between the chip and its memory.
      interconnect: bytes per second that a chip can receive from other chips.
      devices: number of jax devices per chip, which share it evenly.
      kinds: `device_kind` of its jax devices.
    """

    flops: float
    memory: float
    bandwidth: float
    interconnect: float
    devices: int = 1
    kinds: tuple[str, ...] = ()


CHIPS = {  # by its name in a topology
    "v5e": Chip(197e12, 15.75 * GIB, 819e9, 200e9, kinds=("TPU v5 lite", "TPU v5e")),
    "v5p": Chip(459e12, 95.74 * GIB, 2765e9, 600e9, kinds=("TPU v5", "TPU v5p")),
    "v6e": Chip(918e12, 31.25 * GIB, 1600e9, 400e9, kinds=("TPU v6 lite", "TPU v6e")),
    "tpu7x": Chip(2307e12, 2 * 94.75 * GIB, 7380e9, 600e9, devices=2, kinds=("TPU7x",)),
}


def chip_of(topology: str) -> Chip:
    """The chip of a topology such as 'v5e:4x4'.

    Raises:
      ConfigError: `CHIPS` does not have it.
    """
    name = topology.split(":")[0]
    if name not in CHIPS:
        raise ConfigError(f"topology {topology!r}: no chip {name!r}; there are {', '.join(CHIPS)}, as in 'v5e:4x4'")
    return CHIPS[name]


def utilisation(flops_per_second: float, devices: list[Device]) -> float | None:
    """Achieved over peak FLOP/s of these devices; None if `CHIPS` does not have their kind."""
    kind = devices[0].device_kind
    chip = next((chip for chip in CHIPS.values() if kind in chip.kinds), None)
    return flops_per_second / (chip.flops / chip.devices * len(devices)) if chip else None
