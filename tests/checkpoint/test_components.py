"""Components: reading single leaves, and saving views of files without copies."""

import weakref

import jax
import numpy as np
import pytest
from jax.sharding import PartitionSpec

from codi_jax.checkpoint import CheckpointError, CheckpointReader, components, load_params, save_params, store
from codi_jax.parallel import MeshConfig, make_mesh, paths


def tree() -> dict:
    rng = np.random.default_rng(0)
    shapes = {"a/kernel": (64, 32), "a/bias": (32,), "b/kernel": (8, 8, 4), "c/scale": ()}
    params = {f"params/{path}": rng.standard_normal(shape).astype(np.float16) for path, shape in shapes.items()}
    return paths.nest({**params, "constants/a/shift": np.arange(3)})


@pytest.mark.parametrize("ahead", [0, 600, 1 << 20])
def test_leaves_can_be_read_in_any_order(ahead, tmp_path, monkeypatch):
    monkeypatch.setattr(components, "_READ_AHEAD", ahead)
    save_params(str(tmp_path / "c"), tree())
    leaves, flat = CheckpointReader(str(tmp_path / "c")), paths.flatten(tree())
    assert {path: (x.shape, x.dtype) for path, x in leaves.shapes.items()} == {
        path: (x.shape, x.dtype) for path, x in flat.items()
    }
    for path in [*flat, *reversed(flat), *flat]:
        np.testing.assert_array_equal(leaves.read(path), flat[path], strict=True)


def test_reading_ahead_stays_within_the_limit(tmp_path, monkeypatch):
    monkeypatch.setattr(components, "_READ_AHEAD", 5000)
    save_params(str(tmp_path / "c"), tree())
    leaves = CheckpointReader(str(tmp_path / "c"))
    for path in leaves.shapes:
        leaves.read(path)
        assert sum(x.nbytes for x in leaves._ahead.values()) <= 5000


def test_a_strided_view_of_a_file_is_saved_correctly(tmp_path):
    rng = np.random.default_rng(0)
    rng.standard_normal((96, 64)).astype(np.float32).tofile(tmp_path / "raw")
    mapped = np.memmap(tmp_path / "raw", np.float32, "r", shape=(96, 64))
    save_params(str(tmp_path / "c"), {"transposed": np.asarray(mapped).T, "part": np.asarray(mapped)[3:5, ::2]})
    loaded = load_params(str(tmp_path / "c"))
    np.testing.assert_array_equal(loaded["transposed"], np.asarray(mapped).T)
    np.testing.assert_array_equal(loaded["part"], np.asarray(mapped)[3:5, ::2])


def test_the_host_never_holds_all_of_the_parameters_that_devices_share(tmp_path, monkeypatch, caplog):
    """Eight devices hold 16 arrays of 32 KiB; the host has copies of two at a time, and keeps none."""
    monkeypatch.setattr(store, "_MAX_IN_FLIGHT", 2 << 15)
    split = jax.sharding.NamedSharding(make_mesh(MeshConfig(data=1, fsdp=8)), PartitionSpec("fsdp"))
    rng = np.random.default_rng(0)
    expected = {f"w{i}": rng.standard_normal((64, 128)).astype(np.float32) for i in range(16)}
    tree, copies, counts = jax.device_put(expected, split), [], []
    to_host = store._to_host

    def counted(array):
        out = to_host(array)
        copies.append(weakref.ref(out))
        counts.append(sum(copy() is not None for copy in copies))
        return out

    monkeypatch.setattr(store, "_to_host", counted)
    save_params(str(tmp_path / "c"), tree)
    assert not caplog.records
    assert len(counts) == 16 and max(counts) <= 3  # two in flight, and one whose write has just ended
    assert all(array._npy_value is None for array in tree.values())
    loaded = load_params(str(tmp_path / "c"))
    for name, array in expected.items():
        np.testing.assert_array_equal(loaded[name], array)


def test_a_directory_without_a_checkpoint_is_refused(tmp_path):
    with pytest.raises(CheckpointError, match="no checkpoint in"):
        CheckpointReader(str(tmp_path))
