import jax
import pytest
from jax.sharding import AxisType

from codi_jax.config import ConfigError
from codi_jax.parallel import MeshConfig, make_mesh


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
def test_sizes_and_inferred_axis(config, sizes):
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
def test_unless_it_is_given_fsdp_is_at_most_64(config, devices, sizes):
    assert config.sizes(devices) == sizes


def test_one_device_is_a_mesh_too():
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
def test_sizes_that_do_not_fit(config, message):
    with pytest.raises(ConfigError, match=message):
        make_mesh(config)
