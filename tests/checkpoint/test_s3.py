"""Checkpoints on a real S3 server, where the index alone marks a checkpoint as complete."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec as P

from codi_jax import storage
from codi_jax.checkpoint import (
    Checkpointer,
    CheckpointError,
    CheckpointReader,
    index,
    load_params,
    read_meta,
    save_params,
)
from codi_jax.parallel import MeshConfig, make_mesh
from tests import s3, toy


@pytest.fixture(scope="module")
def bucket():
    with pytest.MonkeyPatch.context() as patch:
        yield s3.bucket(patch, "checkpoints")


def tree(seed=0.0):
    return {
        "w": jnp.arange(32.0).reshape(8, 4) + seed,
        "n": {"steps": jnp.int32(seed), "half": jnp.ones(3, jnp.bfloat16)},
    }


def split(*axes):
    """`tree` with `w` sharded over the devices."""
    mesh = make_mesh(MeshConfig(data=1, fsdp=4, tensor=2))
    sharded = jax.sharding.NamedSharding(mesh, P(*axes))
    replicated = jax.sharding.NamedSharding(mesh, P())
    return jax.device_put(tree(), {"w": sharded, "n": {"steps": replicated, "half": replicated}})


def test_saved_from_one_layout_and_restored_into_another(bucket):
    with Checkpointer(f"{bucket}/layout") as checkpoints:
        checkpoints.save(7, split("fsdp", "tensor"), {"place": 3})
    with Checkpointer(f"{bucket}/layout") as checkpoints:
        target = split("tensor")
        restored, meta = checkpoints.restore(target)
        assert toy.same(restored, tree()) and meta == {"place": 3}
        assert restored["w"].sharding == target["w"].sharding
        with pytest.raises(CheckpointError, match=r"missing    x  .*(.|\n)*mistyped   n/half  saved bfloat16"):
            checkpoints.restore({**tree(), "n": {"steps": jnp.int32(0), "half": jnp.ones(3)}, "x": jnp.ones(1)})


def test_keep_last_and_keep_every(bucket):
    with Checkpointer(f"{bucket}/kept", keep_last=1, keep_every=2) as checkpoints:
        for step in (1, 2, 3):
            checkpoints.save(step, tree(step))
    with Checkpointer(f"{bucket}/kept") as checkpoints:
        assert checkpoints.steps() == [2, 3]
        assert toy.same(checkpoints.restore(tree(), 2)[0], tree(2))
    assert {path.name for path in storage.as_path(f"{bucket}/kept").iterdir()} == {"00000002", "00000003"}


def test_an_interrupted_write_is_ignored_and_removed(bucket):
    with Checkpointer(f"{bucket}/cut") as checkpoints:
        checkpoints.save(2, tree(2))
    (storage.as_path(f"{bucket}/cut") / "00000002" / index.NAME).unlink()  # it is uploaded last
    with Checkpointer(f"{bucket}/cut") as checkpoints:
        assert checkpoints.latest() is None
        checkpoints.save(2, tree(20))
    (storage.as_path(f"{bucket}/cut") / "00000002" / "commit_success.txt").unlink()  # uploaded after the index
    with Checkpointer(f"{bucket}/cut") as checkpoints:
        assert toy.same(checkpoints.restore(tree())[0], tree(20))


def test_a_missing_or_truncated_object_is_refused_in_one_line(bucket):
    save_params(f"{bucket}/hurt", tree())
    (manifest,) = (f for f in index.read(storage.as_path(f"{bucket}/hurt")).files if f == "manifest.ocdbt")
    (storage.as_path(f"{bucket}/hurt") / manifest).write_bytes(b"short")
    with pytest.raises(CheckpointError, match=r"is damaged: manifest.ocdbt has 5 bytes instead of \d+$"):
        load_params(f"{bucket}/hurt")
    (storage.as_path(f"{bucket}/hurt") / manifest).unlink()
    with pytest.raises(CheckpointError, match=r"is damaged: manifest.ocdbt is missing$"):
        load_params(f"{bucket}/hurt")
    with pytest.raises(CheckpointError, match="no checkpoint in s3://"):
        load_params(f"{bucket}/nothing")


@pytest.mark.parametrize(("etags", "flips"), [("md5", 55), ("opaque", 11)])
def test_every_flipped_bit_is_refused(bucket, monkeypatch, etags, flips):
    """Bits of every file that a checkpoint consists of."""
    if etags == "opaque":  # as of encrypted objects: they change with the content, but are not its MD5
        monkeypatch.setattr(storage, "_etag", lambda info: f"{info['ETag']} of an encrypted object")
    where, rng = f"{bucket}/flipped-{etags}", np.random.default_rng(0)
    save_params(where, {**tree(), "w": rng.standard_normal((64, 64)).astype(np.float32)})
    folder = storage.as_path(where)
    names = [*index.read(folder).files, index.NAME]
    for k in range(flips):
        file = folder / names[k % len(names)]
        original = file.read_bytes()
        flipped = bytearray(original)
        flipped[rng.integers(len(flipped))] ^= 1 << rng.integers(8)
        file.write_bytes(bytes(flipped))
        with pytest.raises(CheckpointError, match=r"is damaged: \S+ (has been altered|cannot be read)$"):
            load_params(where)
        file.write_bytes(original)
    monkeypatch.setattr(index, "_md5", lambda file: pytest.fail("downloaded to verify it"))
    assert load_params(where)["w"].shape == (64, 64)


def test_objects_with_other_etags_than_recorded_are_compared_by_content(bucket, tmp_path, monkeypatch):
    save_params(f"{bucket}/original", tree())
    storage.copy(storage.as_path(f"{bucket}/original"), tmp_path / "copy")
    assert toy.same(load_params(str(tmp_path / "copy")), tree())  # a disk has no etags
    monkeypatch.setattr(storage, "_etag", lambda info: f"{info['ETag']}-2")  # as of an upload in parts
    assert toy.same(load_params(f"{bucket}/original"), tree())
    (file,) = (tmp_path / "copy").glob("d/*")
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)
    with pytest.raises(CheckpointError, match="has been altered"):
        load_params(str(tmp_path / "copy"))


def test_components_are_replaced_completely(bucket):
    storage.write_text(storage.as_path(f"{bucket}/made") / "d" / "torn", "of an interrupted write")
    save_params(f"{bucket}/made", {"old": np.ones(3), "w": np.zeros(2)}, {"version": 1})
    save_params(f"{bucket}/made", jax.tree.map(np.asarray, tree()), {"version": 2})
    assert toy.same(load_params(f"{bucket}/made"), tree()) and read_meta(f"{bucket}/made") == {"version": 2}
    assert "d/torn" not in storage.files(storage.as_path(f"{bucket}/made"))
    leaves = CheckpointReader(f"{bucket}/made")
    assert set(leaves.shapes) == {"w", "n/steps", "n/half"}
    np.testing.assert_array_equal(leaves.read("w"), tree()["w"])
