"""The mesh: all devices of a run as a grid with four named axes.

    data      batch split, parameters repeated                 (across slices and within)
    fsdp      batch split, parameters and optimizer state split
    tensor    channels or heads split
    context   frames or sequence split

One device is the grid 1 × 1 × 1 × 1, so that a laptop and a pod run the same program. Between the slices of a TPU job
there is only the data centre's network, so of the axes `data` alone goes across them: its index is (slice, within).
"""

import dataclasses
import math
from collections.abc import Sequence

import jax
import numpy as np
from jax.experimental import mesh_utils
from jax.sharding import AxisType, Mesh

from codi_jax.config import ConfigError

AXES = ("data", "fsdp", "tensor", "context")


MOST_FSDP = 64  # in 64 parts nearly every large array of these networks can be split, in 256 a tenth of them cannot


@dataclasses.dataclass(frozen=True)
class MeshConfig:
    """Sizes of the mesh axes; at most one is -1 and takes the devices that the others leave.

    `fsdp` = 0, the default, is as many of the devices (of a slice) that `tensor` and `context` (and a given `data`)
    leave as divide them, but at most 64.
    """

    data: int = -1
    fsdp: int = 0
    tensor: int = 1
    context: int = 1

    @classmethod
    def parse(cls, given: str) -> "MeshConfig":
        """That of 'data=4,fsdp=64'; raises ConfigError for anything else."""
        sizes = {}
        for part in given.split(","):
            axis, _, length = part.partition("=")
            if axis not in AXES or axis in sizes or not length.removeprefix("-").isdigit():
                raise ConfigError(f"--mesh: expected AXIS=NUMBER,… of {', '.join(AXES)}, got {given!r}")
            sizes[axis] = int(length)
        return cls(**sizes)

    def sizes(self, devices: int, slices: int = 1) -> tuple[int, int, int, int]:
        """The four sizes for a number of devices, which so many slices share evenly.

        Raises:
          ConfigError: a size is neither positive nor -1, more than one is -1, they do not make up `devices`, or `data`
            is not a multiple of the slices.
        """
        given = {axis: getattr(self, axis) for axis in AXES}
        shown = ", ".join(f"{axis}={size}" for axis, size in given.items())
        if any(size < 1 and size != -1 and (axis, size) != ("fsdp", 0) for axis, size in given.items()):
            raise ConfigError(f"mesh({shown}): a size is at least 1, or -1 for what is left")
        inferred = [axis for axis, size in given.items() if size == -1]
        if len(inferred) > 1:
            raise ConfigError(f"mesh({shown}): only one size can be -1, not {' and '.join(inferred)}")
        if not given["fsdp"]:
            left, rest = divmod(devices, math.prod(size for size in given.values() if size > 0))
            within = left // slices if given["data"] == -1 and left % slices == 0 else left
            given["fsdp"] = 1 if rest else max(n for n in range(1, MOST_FSDP + 1) if within % n == 0)
        known = math.prod(size for size in given.values() if size != -1)
        if inferred:
            if devices % known:
                raise ConfigError(
                    f"mesh({shown}): the given sizes make {known}, which does not divide {devices} devices"
                )
            given[inferred[0]] = devices // known
        elif known != devices:
            raise ConfigError(f"mesh({shown}): the sizes make {known}, but there are {devices} devices")
        if given["data"] % slices:
            raise ConfigError(f"mesh({shown}): data is {given['data']}, which {slices} slices cannot share")
        return tuple(given.values())


def make_mesh(config: MeshConfig, devices: Sequence[jax.Device] | None = None) -> Mesh:
    """A mesh over all devices, or over `devices`.

    The axes are of type Auto: the compiler propagates shardings and inserts collectives. (Explicit axes, the default
    of `jax.make_mesh`, make sharding part of each array's type, and linen modules then fail under FSDP.)

    Raises:
      ConfigError: the sizes do not fit the number of devices.
    """
    grid = _grid(config, list(jax.devices() if devices is None else devices))
    return Mesh(grid, AXES, axis_types=(AxisType.Auto,) * len(AXES))


def _grid(config: MeshConfig, devices: list[jax.Device]) -> np.ndarray:
    """The devices where they belong, [data, fsdp, tensor, context]."""
    slices = len({getattr(device, "slice_index", 0) for device in devices})
    data, *others = config.sizes(len(devices), slices)
    # A mesh axis may have to split a physical axis of a TPU torus (8 × 8 on 4 × 4 × 4, for one).
    if slices == 1:
        return np.asarray(mesh_utils.create_device_mesh((data, *others), devices, allow_split_physical_axes=True))
    within = (data // slices, *others)
    return mesh_utils.create_hybrid_device_mesh(within, (slices, 1, 1, 1), devices, allow_split_physical_axes=True)
