"""Peaks of chips, found by topology and by the kind of a jax device."""

import types

import pytest

from codi_jax.config import ConfigError
from codi_jax.parallel.chips import CHIPS, chip_of, chip_of_kind, utilisation


@pytest.mark.parametrize(
    ("kind", "flops"),
    [
        ("TPU v5 lite", 197e12),
        ("NVIDIA H100 80GB HBM3", 989.5e12),
        ("NVIDIA H200", 989.5e12),
        ("NVIDIA A100-SXM4-80GB", 312e12),
        ("NVIDIA A100-SXM4-40GB", 312e12),
        ("NVIDIA L4", 121e12),
        ("TPU7x", 2307e12 / 2),  # two devices share a chip
    ],
)
def test_utilisation_of_every_kind(kind, flops):
    devices = [types.SimpleNamespace(device_kind=kind)] * 4
    assert utilisation(2 * flops, devices) == pytest.approx(0.5)


def test_an_unknown_kind_has_no_utilisation():
    assert chip_of_kind("cpu") is None
    assert utilisation(1e12, [types.SimpleNamespace(device_kind="cpu")]) is None


def test_a_topology_is_one_of_tpus():
    assert chip_of("v5e:4x4") is CHIPS["v5e"]
    with pytest.raises(ConfigError, match="no chip 'NVIDIA L4'; there are v5e, v5p, v6e, tpu7x"):
        chip_of("NVIDIA L4:8")
