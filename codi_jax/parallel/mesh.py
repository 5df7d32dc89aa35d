"""The mesh: all devices of a run as a grid with four named axes.

    data      splits the batch, replicates parameters          (across slices and within)
    fsdp      splits the batch, parameters and optimizer state
    tensor    splits channels or heads
    context   splits frames or the sequence

A single device is the mesh 1 × 1 × 1 × 1, so that a laptop and a pod run the same program. The slices of a TPU job are
connected by the data-center network only, so `data` is the only axis across slices: its index is (slice, within).
"""

import math
from collections.abc import Sequence

import jax
import numpy as np
from jax.experimental import mesh_utils
from jax.sharding import AxisType, Mesh

from codi_jax.config import ConfigError, config_class
from codi_jax.types import Device

AXES = ("data", "fsdp", "tensor", "context")


MAX_FSDP = 64  # nearly every large array of these networks can be split into 64 parts; a tenth cannot into 256


@config_class()
class MeshConfig:
    """Sizes of the mesh axes; at most one is -1, which stands for the remaining devices.

    `fsdp` = 0, the default, takes the largest divisor, at most 64, of the number of devices (of a slice) that remain
    after `tensor` and `context` (and `data`, if it is not -1).
    """

    data: int = -1
    fsdp: int = 0
    tensor: int = 1
    context: int = 1

    @classmethod
    def parse(cls, text: str) -> "MeshConfig":
        """Parses 'data=4,fsdp=64'.

        Raises:
          ConfigError: the text is not of this form.
        """
        sizes = {}
        for part in text.split(","):
            axis, _, length = part.partition("=")
            if axis not in AXES or axis in sizes or not length.removeprefix("-").isdigit():
                raise ConfigError(f"--mesh: expected AXIS=NUMBER,… with axes {', '.join(AXES)}, got {text!r}")
            sizes[axis] = int(length)
        return cls(**sizes)

    def sizes(self, devices: int, slices: int = 1) -> tuple[int, int, int, int]:
        """The four sizes for a number of devices in `slices` equal slices.

        Raises:
          ConfigError: a size is neither positive nor -1, more than one is -1, their product is not `devices`, or `data`
            is not a multiple of `slices`.
        """
        sizes = {axis: getattr(self, axis) for axis in AXES}
        shown = ", ".join(f"{axis}={size}" for axis, size in sizes.items())
        if any(size < 1 and size != -1 and (axis, size) != ("fsdp", 0) for axis, size in sizes.items()):
            raise ConfigError(f"mesh({shown}): a size is at least 1, or -1 for the remaining devices")
        inferred = [axis for axis, size in sizes.items() if size == -1]
        if len(inferred) > 1:
            raise ConfigError(f"mesh({shown}): only one size can be -1, not {' and '.join(inferred)}")
        if not sizes["fsdp"]:
            left, rest = divmod(devices, math.prod(size for size in sizes.values() if size > 0))
            within = left // slices if sizes["data"] == -1 and left % slices == 0 else left
            sizes["fsdp"] = 1 if rest else max(n for n in range(1, MAX_FSDP + 1) if within % n == 0)
        known = math.prod(size for size in sizes.values() if size != -1)
        if inferred:
            if devices % known:
                raise ConfigError(
                    f"mesh({shown}): the other sizes make {known}, which does not divide {devices} devices"
                )
            sizes[inferred[0]] = devices // known
        elif known != devices:
            raise ConfigError(f"mesh({shown}): the sizes make {known}, but there are {devices} devices")
        if sizes["data"] % slices:
            raise ConfigError(f"mesh({shown}): data is {sizes['data']}, which is not a multiple of {slices} slices")
        return tuple(sizes.values())


def make_mesh(config: MeshConfig, devices: Sequence[Device] | None = None) -> Mesh:
    """A mesh over all devices, or over `devices`.

    The axes are of type Auto: the compiler propagates shardings and inserts collectives. (Explicit axes, the default
    of `jax.make_mesh`, make sharding part of each array's type, and linen modules then fail under FSDP.)

    Raises:
      ConfigError: the sizes do not fit the number of devices.
    """
    grid = _grid(config, list(jax.devices() if devices is None else devices))
    return Mesh(grid, AXES, axis_types=(AxisType.Auto,) * len(AXES))


def _grid(config: MeshConfig, devices: list[Device]) -> np.ndarray:
    """The device grid [data, fsdp, tensor, context]."""
    slices = len({getattr(device, "slice_index", 0) for device in devices})
    data, *others = config.sizes(len(devices), slices)
    # A mesh axis may have to split a physical axis of a TPU torus (for example 8 × 8 on 4 × 4 × 4).
    if slices == 1:
        return np.asarray(mesh_utils.create_device_mesh((data, *others), devices, allow_split_physical_axes=True))
    within = (data // slices, *others)
    return mesh_utils.create_hybrid_device_mesh(within, (slices, 1, 1, 1), devices, allow_split_physical_axes=True)
