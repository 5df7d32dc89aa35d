"""Peak compute, memory and bandwidths of TPU chips and GPUs.

TPUs: Google's page on each chip (docs.cloud.google.com/tpu/docs/v5e, …/v5p, …/v6e, …/tpu7x, read in 2026). A program
can use a little less than a chip's memory; `memory` is the limit at which the TPU compiler reports out of memory.
The vector unit of a core has 8 · 128 lanes with four operations a cycle, at about 1.5 to 2.2 GHz.

GPUs: NVIDIA's data sheets "H100 Tensor Core GPU" (the SXM module), "H200 Tensor Core GPU" (SXM), "A100 Tensor Core GPU"
(40 GB and 80 GB SXM) and "L4 Tensor Core GPU". Those of H100, H200 and L4 give operations with sparsity, twice as many
as of dense products, which are meant here.

All give the interconnect bandwidth of both directions together; a chip can receive half of it. For GPUs it is that of
NVLink, within a node or NVLink domain; an L4 has only PCIe.
"""

import dataclasses
import math

from codi_jax.config import ConfigError
from codi_jax.parallel.flops import Flops, Product
from codi_jax.types import Device

GIB = 2**30


@dataclasses.dataclass(frozen=True)
class Chip:
    """One kind of chip; all numbers are for a whole chip.

    Attributes:
      flops: bf16 operations per second of dense products.
      memory: bytes that a program can use.
      bandwidth: bytes per second between the chip and its memory.
      interconnect: bytes per second that a chip can receive from other chips.
      unit: edge of a matrix unit; 1 if narrow products are not slower in proportion.
      vector: operations per second of the vector units; 0 if unknown.
      devices: number of jax devices per chip, which share it evenly.
      kinds: `device_kind` of its jax devices.
    """

    flops: float
    memory: float
    bandwidth: float
    interconnect: float
    unit: int = 1
    vector: float = 0.0
    devices: int = 1
    kinds: tuple[str, ...] = ()

    def on_units(self, flops: Flops | Product) -> float:
        """Operations that the matrix units could do in the time that they, or the vector units, need for these."""
        return flops.on_unit(self.unit, self.flops / self.vector if self.vector else math.inf)


CHIPS = {  # TPUs, by the name in a topology
    "v5e": Chip(197e12, 15.75 * GIB, 819e9, 200e9, 128, 6.1e12, kinds=("TPU v5 lite", "TPU v5e")),
    "v5p": Chip(459e12, 95.74 * GIB, 2765e9, 600e9, 128, 14.3e12, kinds=("TPU v5", "TPU v5p")),
    "v6e": Chip(918e12, 31.25 * GIB, 1638e9, 400e9, 256, 7.2e12, kinds=("TPU v6 lite", "TPU v6e")),
    "tpu7x": Chip(2307e12, 2 * 94.75 * GIB, 7380e9, 600e9, 256, 18e12, devices=2, kinds=("TPU7x",)),
}
GPUS = (
    Chip(989.5e12, 80e9, 3350e9, 450e9, kinds=("NVIDIA H100 80GB HBM3",)),
    Chip(989.5e12, 141e9, 4800e9, 450e9, kinds=("NVIDIA H200",)),
    Chip(312e12, 80e9, 2039e9, 300e9, kinds=("NVIDIA A100-SXM4-80GB",)),
    Chip(312e12, 40e9, 1555e9, 300e9, kinds=("NVIDIA A100-SXM4-40GB",)),
    Chip(121e12, 24e9, 300e9, 32e9, kinds=("NVIDIA L4",)),
)


def chip_of(topology: str) -> Chip:
    """The chip of a TPU topology such as 'v5e:4x4'.

    Raises:
      ConfigError: `CHIPS` does not have it.
    """
    name = topology.split(":")[0]
    if name not in CHIPS:
        raise ConfigError(f"topology {topology!r}: no chip {name!r}; there are {', '.join(CHIPS)}, as in 'v5e:4x4'")
    return CHIPS[name]


def chip_of_kind(kind: str) -> Chip | None:
    """The chip of jax devices of this `device_kind`; None if it is not known here."""
    return next((chip for chip in (*CHIPS.values(), *GPUS) if kind in chip.kinds), None)


def utilisation(flops_per_second: float, devices: list[Device]) -> float | None:
    """Achieved over peak FLOP/s of these devices; None if the peak of their kind is unknown."""
    chip = chip_of_kind(devices[0].device_kind)
    return flops_per_second / (chip.flops / chip.devices * len(devices)) if chip else None
