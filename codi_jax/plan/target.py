"""Where a stage is to run: a TPU slice by name, so many virtual CPU devices, or the devices that are here.

A slice is only described: libtpu compiles for it on any machine. jax itself is kept on CPU meanwhile, or it would look
for a TPU to start.
"""

import contextlib
import dataclasses
import importlib.util
import os
import re
from typing import Any

import jax
from jax.experimental import topologies

from codi_jax.config import ConfigError
from codi_jax.parallel.chips import Chip, chip_of

# libtpu would ask a cloud machine's metadata server what it runs on, and complain; what it compiles for is said to it.
_NO_MACHINE = {
    "TPU_SKIP_MDS_QUERY": "1", "TPU_WORKER_HOSTNAMES": "localhost", "TPU_ACCELERATOR_TYPE": "v5litepod-4",
    "ALLOW_MULTIPLE_LIBTPU_LOAD": "1"
}  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Target:
    """Attributes:
    name: as it stands in a plan's rows.
    platform: what to compile for.
    devices: as jax sees them, there or described.
    chip: what a chip of it can do; None where that is not known.
    """

    name: str
    platform: str
    devices: tuple[Any, ...]
    chip: Chip | None = None

    @property
    def per_chip(self) -> int:
        """Devices a chip."""
        return self.chip.devices if self.chip else 1

    @property
    def chips(self) -> int:
        return len(self.devices) // self.per_chip


def tpu(name: str) -> Target:
    """A TPU slice, 'v5e:4x4' for one.

    Raises:
      ConfigError: libtpu is not installed, or the name is not one of a slice.
    """
    chip = chip_of(name)
    if not re.fullmatch(r"\w+:\d+(x\d+){1,2}", name):
        raise ConfigError(f"topology {name!r}: a slice is named as in 'v5e:4x4' or 'v5p:4x4x4'")
    if importlib.util.find_spec("libtpu") is None:
        raise ConfigError("--topology needs the TPU compiler, which is not installed: pip install 'codi_jax[plan]'")
    _stay_on_cpu()
    for variable, value in _NO_MACHINE.items():
        os.environ.setdefault(variable, value)
    single = {"chips_per_host_bounds": (1, 1, 1)} if name.split(":")[-1] == "1x1" else {}
    try:
        described = topologies.get_topology_desc(platform="tpu", topology_name=name, **single)
    except jax.errors.JaxRuntimeError as error:
        said = str(error).splitlines()[0].removeprefix("INVALID_ARGUMENT: ")
        raise ConfigError(f"topology {name!r}: {said}") from None
    return Target(name, "tpu", tuple(described.devices), chip)


def virtual(count: int) -> Target:
    """So many virtual CPU devices.

    Raises:
      ConfigError: there are fewer, and it is too late to make more.
    """
    if count < 1:
        raise ConfigError(f"--devices: expected a positive number, got {count}")
    _stay_on_cpu()
    if "xla_force_host_platform_device_count" not in os.environ.get("XLA_FLAGS", ""):
        with contextlib.suppress(RuntimeError):  # jax has begun: what there is has to do
            jax.config.update("jax_num_cpu_devices", count)
    devices = jax.devices("cpu")
    if len(devices) < count:
        raise ConfigError(f"--devices={count}: this process has {len(devices)} CPU devices (XLA_FLAGS says how many)")
    return Target(f"cpu:{count}", "cpu", tuple(devices[:count]))


def present() -> Target:
    """The devices of this machine."""
    devices = jax.devices()
    return Target(f"{devices[0].device_kind}:{len(devices)}", devices[0].platform, tuple(devices))


def _stay_on_cpu() -> None:
    jax.config.update("jax_platforms", "cpu")
