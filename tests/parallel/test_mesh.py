import types

import jax
import numpy as np
import pytest
from jax.sharding import AxisType

from codi_jax.config import ConfigError
from codi_jax.parallel import MeshConfig, make_mesh, mesh


@pytest.mark.parametrize(
    ("config", "sizes"),
    [
        (MeshConfig(), (1, 8, 1, 1)),
        (MeshConfig(fsdp=1), (8, 1, 1, 1)),
        (MeshConfig(data=2), (2, 4, 1, 1)),
        (MeshConfig(tensor=4), (1, 2, 4, 1)),
        (MeshConfig(data=1, fsdp=-1), (1, 8, 1, 1)),
        (MeshConfig(data=2, fsdp=2, tensor=2), (2, 2, 2, 1)),
        (MeshConfig(fsdp=2, context=2), (2, 2, 1, 2)),
    ],
)
def test_sizes_and_inferred_axes(config, sizes):
    mesh = make_mesh(config)
    assert tuple(mesh.shape.items()) == tuple(zip(("data", "fsdp", "tensor", "context"), sizes, strict=True))
    assert mesh.axis_types == (AxisType.Auto,) * 4
    assert sorted(d.id for d in mesh.devices.flat) == [d.id for d in jax.devices()]


@pytest.mark.parametrize(
    ("config", "devices", "sizes"),
    [
        (MeshConfig(), 256, (4, 64, 1, 1)),
        (MeshConfig(tensor=2), 256, (2, 64, 2, 1)),
        (MeshConfig(), 96, (2, 48, 1, 1)),
        (MeshConfig(), 64, (1, 64, 1, 1)),
        (MeshConfig(), 67, (67, 1, 1, 1)),
    ],
)
def test_default_fsdp_is_at_most_64(config, devices, sizes):
    assert config.sizes(devices) == sizes


@pytest.mark.parametrize(
    ("config", "slices", "sizes"),
    [
        (MeshConfig(), 2, (2, 64, 1, 1)),
        (MeshConfig(), 4, (4, 32, 1, 1)),
        (MeshConfig(fsdp=16), 2, (8, 16, 1, 1)),
        (MeshConfig(tensor=2), 2, (2, 32, 2, 1)),
        (MeshConfig(data=4), 2, (4, 32, 1, 1)),
    ],
)
def test_only_data_spans_slices(config, slices, sizes):
    each = 128 // slices
    devices = [
        types.SimpleNamespace(id=i, slice_index=i % slices, process_index=i % 4, platform="any", device_kind="any")
        for i in range(128)
    ]
    grid = mesh._grid(config, devices)
    assert grid.shape == sizes
    slice_of = np.vectorize(lambda device: device.slice_index)(grid)
    assert (slice_of == (np.arange(sizes[0]) // (sizes[0] // slices))[:, None, None, None]).all()
    assert np.unique(np.vectorize(lambda device: device.id)(grid)).size == slices * each
    with pytest.raises(ConfigError, match=f"data is 1, which is not a multiple of {slices} slices"):
        mesh._grid(MeshConfig(data=1, fsdp=-1), devices)


def test_a_single_device_is_a_mesh():
    assert make_mesh(MeshConfig(), jax.devices()[:1]).devices.shape == (1, 1, 1, 1)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (MeshConfig(data=-1, fsdp=3), "make 3, which does not divide 8 devices"),
        (MeshConfig(data=2, fsdp=2), "make 4, but there are 8 devices"),
        (MeshConfig(data=3), "make 3, but there are 8 devices"),
        (MeshConfig(data=-1, fsdp=-1), "not data and fsdp"),
        (MeshConfig(data=0), "at least 1"),
    ],
)
def test_sizes_that_do_not_fit_are_refused(config, message):
    with pytest.raises(ConfigError, match=message):
        make_mesh(config)
