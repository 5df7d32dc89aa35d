"""The hardware that a program is traced for, by which layers choose among programs of equal results."""

import dataclasses

import jax


@dataclasses.dataclass(frozen=True)
class Hardware:
    """What a program is compiled for: `cpu`, `gpu` or `tpu`, and on a GPU whether it is NVIDIA's Hopper or later."""

    platform: str
    hopper: bool = False


def hardware() -> Hardware:
    """The hardware of the current mesh; without a mesh, that of jax's default backend."""
    mesh = jax.sharding.get_abstract_mesh()
    device = None if mesh.empty else mesh.abstract_device
    if device is None:
        device = jax.devices()[0]
    platform = {"cuda": "gpu", "rocm": "gpu"}.get(str(device.platform), str(device.platform))
    capability = getattr(jax.devices()[0], "compute_capability", "0") if device.platform in ("gpu", "cuda") else "0"
    return Hardware(platform, float(capability) >= 9)
