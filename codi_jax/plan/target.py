"""The hardware of a plan: a TPU slice by name, virtual CPU devices, or the devices of this machine.

For a slice there is only a topology description: libtpu compiles for it on any machine. jax itself is set to CPU, since
it would look for a TPU otherwise.
"""

import contextlib
import dataclasses
import importlib.util
import os
import re
from typing import Any

import jax
from jax.experimental import topologies

from codi_jax.config import ConfigError, first_line
from codi_jax.parallel.chips import Chip, chip_of, chip_of_kind

# Without these libtpu queries the metadata server of a cloud machine for its hardware, and complains if there is none.
_NO_MACHINE = {
    "TPU_SKIP_MDS_QUERY": "1", "TPU_WORKER_HOSTNAMES": "localhost", "TPU_ACCELERATOR_TYPE": "v5litepod-4",
    "ALLOW_MULTIPLE_LIBTPU_LOAD": "1"
}  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Target:
    """The hardware of a plan.

    Attributes:
      name: as in the rows of a plan.
      platform: to compile for.
      devices: jax devices, present or of a topology description.
      chip: peaks of one chip; None if they are unknown.
    """

    name: str
    platform: str
    devices: tuple[Any, ...]
    chip: Chip | None = None

    @property
    def per_chip(self) -> int:
        """Number of jax devices per chip."""
        return self.chip.devices if self.chip else 1

    @property
    def chips(self) -> int:
        """Number of chips."""
        return len(self.devices) // self.per_chip


def tpu(name: str) -> Target:
    """A TPU slice such as 'v5e:4x4'.

    Raises:
      ConfigError: libtpu is not installed, or there is no slice of this name.
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
        message = first_line(error).removeprefix("INVALID_ARGUMENT: ")
        raise ConfigError(f"topology {name!r}: {message}") from None
    return Target(name, "tpu", tuple(described.devices), chip)


def virtual(count: int) -> Target:
    """`count` virtual CPU devices.

    Raises:
      ConfigError: jax has already been initialized with fewer.
    """
    if count < 1:
        raise ConfigError(f"--devices: expected a positive number, got {count}")
    _stay_on_cpu()
    if "xla_force_host_platform_device_count" not in os.environ.get("XLA_FLAGS", ""):
        with contextlib.suppress(RuntimeError):  # jax is already initialized: its devices are used
            jax.config.update("jax_num_cpu_devices", count)
    devices = jax.devices("cpu")
    if len(devices) < count:
        raise ConfigError(f"--devices={count}: this process has {len(devices)} CPU devices (set by XLA_FLAGS)")
    return Target(f"cpu:{count}", "cpu", tuple(devices[:count]))


def present() -> Target:
    """The devices of this machine."""
    devices = jax.devices()
    kind = devices[0].device_kind
    return Target(f"{kind}:{len(devices)}", devices[0].platform, tuple(devices), chip_of_kind(kind))


def _stay_on_cpu() -> None:
    jax.config.update("jax_platforms", "cpu")
