import os
import re
import shutil
import signal
import subprocess
import sys

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import PartitionSpec as P

from codi_jax.checkpoint import Checkpointer, CheckpointError, load_params, read_meta, save_params
from codi_jax.exit_codes import EXIT_UNAVAILABLE
from codi_jax.parallel import MeshConfig, ShardingConfig, make_mesh, resolve


@flax.struct.dataclass
class State:
    step: jax.Array
    params: dict
    opt_state: tuple
    ema: dict | None = None


def make_state(seed=0):
    keys = jax.random.split(jax.random.key(seed), 3)
    params = {
        "net": {"kernel": jax.random.normal(keys[0], (16, 8)), "bias": jnp.arange(8, dtype=jnp.int32)},
        "half": {"kernel": jax.random.normal(keys[1], (5, 7), jnp.bfloat16)},
        "odd": jnp.array([jnp.nan, -0.0, jnp.inf, 1e-42], jnp.float32),
    }
    return State(jnp.int32(3), params, optax.scale_by_adam().init({"w": jax.random.normal(keys[2], (4,))}))


def abstract(tree):
    return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), tree)


def identical(a, b):
    def same(x, y):
        return x.dtype == y.dtype and x.shape == y.shape and np.asarray(x).tobytes() == np.asarray(y).tobytes()

    return jax.tree.structure(a) == jax.tree.structure(b) and all(jax.tree.leaves(jax.tree.map(same, a, b)))


def test_round_trip_is_bit_exact(tmp_path, capfd):
    state = make_state()
    with Checkpointer(tmp_path / "run") as checkpoints:
        assert checkpoints.latest() is None
        checkpoints.save(7, state, {"stage": "ldm", "data": {"next": 12}})
        restored, meta = checkpoints.restore(abstract(state))
        assert checkpoints.latest() == 7
    assert identical(restored, state)
    assert meta == {"stage": "ldm", "data": {"next": 12}}
    assert capfd.readouterr() == ("", "")  # Orbax prints nothing


def test_saved_buffers_may_be_donated_at_once(tmp_path):
    step = jax.jit(lambda tree: jax.tree.map(lambda leaf: leaf * 2 + 1, tree), donate_argnums=0)
    tree = {str(i): jnp.full((256, 1024), i, jnp.float32) for i in range(16)}
    kept = jax.tree.map(np.array, tree)
    with Checkpointer(tmp_path) as checkpoints:
        checkpoints.save(0, tree)
        for _ in range(5):
            tree = step(tree)
        restored, _ = checkpoints.restore(abstract(tree))
    assert identical(restored, jax.tree.map(jnp.asarray, kept))


def test_restore_into_other_shardings(tmp_path):
    tree = {"w": np.arange(256, dtype=np.float32).reshape(16, 16), "n": np.int32(4)}
    placed = []
    for config in (MeshConfig(data=1, fsdp=8), MeshConfig(data=2, fsdp=2, tensor=2)):
        rules = (("w", ("tensor", "fsdp")),) if config.tensor == 2 else ()
        shardings, _ = resolve(tree, make_mesh(config), ShardingConfig(rules, fsdp_min_bytes=0))
        placed.append(shardings)
    with Checkpointer(tmp_path) as checkpoints:
        checkpoints.save(1, jax.device_put(tree, placed[0]))
        target = jax.tree.map(lambda a, s: jax.ShapeDtypeStruct(a.shape, a.dtype, sharding=s), tree, placed[1])
        restored, _ = checkpoints.restore(target)
    assert restored["w"].sharding == placed[1]["w"] and restored["w"].sharding.spec == P("tensor", "fsdp")
    np.testing.assert_array_equal(restored["w"], tree["w"])
    assert int(restored["n"]) == 4


def test_every_difference_is_named(tmp_path):
    saved = {"a": {"kernel": jnp.zeros((2, 3)), "bias": jnp.zeros(3)}, "old": jnp.zeros(1), "t": jnp.zeros(2)}
    target = {
        "a": {"kernel": jnp.zeros((3, 2)), "bias": jnp.zeros(3)},
        "new": jnp.zeros(1),
        "t": jnp.zeros(2, jnp.bfloat16),
    }
    with Checkpointer(tmp_path) as checkpoints:
        checkpoints.save(1, saved)
        with pytest.raises(CheckpointError) as error:
            checkpoints.restore(abstract(target))
    first, *lines = str(error.value).splitlines()
    assert first.endswith("does not fit: 4 differences")
    assert [line.strip() for line in lines] == [
        "extra      old  float32[1]",
        "misshaped  a/kernel  saved float32[2, 3], expected float32[3, 2]",
        "missing    new  float32[1]",
        "mistyped   t  saved float32[2], expected bfloat16[2]",
    ]


def test_old_checkpoints_are_deleted_and_a_step_is_saved_once(tmp_path):
    tree = {"w": jnp.ones(3)}
    with Checkpointer(tmp_path, keep_last=2, keep_every=4) as checkpoints:
        for step in range(1, 8):
            checkpoints.save(step, {"w": tree["w"] * step})
        with pytest.raises(CheckpointError, match="step 7 has already been saved"):
            checkpoints.save(7, tree)
    with Checkpointer(tmp_path) as checkpoints:
        assert checkpoints.steps() == [4, 6, 7]
        assert float(checkpoints.restore(abstract(tree), 4)[0]["w"][0]) == 4
        with pytest.raises(CheckpointError, match=r"^no checkpoint in \S+00000005$"):
            checkpoints.restore(abstract(tree), 5)


def test_only_arrays_are_stored(tmp_path):
    with Checkpointer(tmp_path) as checkpoints:
        for tree, message in [
            ({"n": 3}, "n: only arrays can be stored, not int"),
            ({"key": jax.random.key(0)}, "key: random keys are not stored"),
            ({"a": {}}, "the tree has no leaves"),
        ]:
            with pytest.raises(CheckpointError, match=message):
                checkpoints.save(1, tree)
        with pytest.raises(CheckpointError, match=r"^no checkpoint in \S+$"):
            checkpoints.restore({"w": jnp.ones(1)})


CHILD = """
import os, signal, sys
import jax.numpy as jnp
from codi_jax.checkpoint import Checkpointer, index
checkpoints = Checkpointer(sys.argv[1])
checkpoints.save(1, {"w": jnp.full((512, 1024), 1.0)})
checkpoints.wait()
def die(*_):
    os.kill(os.getpid(), signal.SIGKILL)
if sys.argv[2] == "commit":
    index.write = die
checkpoints.save(2, {"w": jnp.full((512, 1024), 2.0)})
if sys.argv[2] == "arrays":
    die()
checkpoints.wait()
"""


@pytest.mark.parametrize("moment", ["arrays", "commit"])
def test_a_killed_write_is_ignored(tmp_path, moment):
    child = subprocess.run([sys.executable, "-c", CHILD, str(tmp_path), moment], env=os.environ, timeout=120)
    assert child.returncode == -signal.SIGKILL
    remains = sorted(path.name for path in tmp_path.iterdir())
    target = {"w": jax.ShapeDtypeStruct((512, 1024), jnp.float32)}
    with Checkpointer(tmp_path) as checkpoints:
        assert checkpoints.latest() == 1
        assert float(checkpoints.restore(target)[0]["w"][0, 0]) == 1
        assert sorted(path.name for path in tmp_path.iterdir()) == remains  # reading removes nothing
        checkpoints.save(2, {"w": jnp.full((512, 1024), 3.0)})
        assert float(checkpoints.restore(target)[0]["w"][0, 0]) == 3
    assert sorted(path.name for path in tmp_path.iterdir()) == ["00000001", "00000002"]


FULL = """
import sys
import jax.numpy as jnp
import numpy as np
from codi_jax import storage
from codi_jax.checkpoint import Checkpointer, CheckpointError
from codi_jax.parallel.host import prepare_process
prepare_process()  # as the command line does
checkpoints = Checkpointer(sys.argv[1])
checkpoints.save(1, {"w": jnp.arange(8.0)})
checkpoints.wait()
noise = np.random.default_rng(0).normal(size=(16, 256, 256))
try:
    checkpoints.save(2, {str(i): jnp.asarray(array) for i, array in enumerate(noise)})
    checkpoints.wait()
except CheckpointError as error:
    print(storage.explain(error, "run"))
print(checkpoints.restore({"w": jnp.zeros(8)})[0]["w"].sum(), checkpoints.steps())
"""
# A file system of 2 MiB that only this process and its children see.
SMALL = ("unshare", "--user", "--map-root-user", "--mount", "sh", "-c")
MOUNT = 'mount -t tmpfs -o size=2m tmpfs "$0" && exec "$@"'


def test_a_full_disk_is_one_line_and_keeps_the_last_checkpoint(tmp_path):
    if shutil.which("unshare") is None or subprocess.run([*SMALL, MOUNT, tmp_path, "true"]).returncode:
        pytest.skip("this system does not let users mount a file system")
    command = [*SMALL, MOUNT, tmp_path, sys.executable, "-c", FULL, tmp_path]
    child = subprocess.run(command, capture_output=True, text=True, timeout=120)
    line = "run: No space left on device: free some space and run the same command again; saved files are intact"
    assert child.stdout.splitlines() == [line, "28.0 [1]"] and child.stderr == "", child.stderr


STALLED = """
import sys, threading
import jax.numpy as jnp
from codi_jax.checkpoint import Checkpointer, CheckpointError, checkpointer, index
checkpointer.REPORT, checkpointer.LIMIT = 0.2, 0.7
with Checkpointer(sys.argv[1]) as checkpoints:
    checkpoints.save(1, {"w": jnp.arange(8.0)})
    checkpoints.wait()
    index.write = lambda *_: threading.Event().wait()
    checkpoints.save(2, {"w": jnp.arange(8.0)})
    try:
        checkpoints.save(3, {"w": jnp.arange(8.0)})
    except CheckpointError as error:
        print(error)
print("ends")
"""


def test_a_storage_that_does_not_respond_ends_the_process(tmp_path):
    command = [sys.executable, "-c", STALLED, tmp_path]
    child = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert child.returncode == EXIT_UNAVAILABLE
    *waits, last = child.stderr.splitlines()
    assert waits and last == f"codi-jax: {tmp_path}: waiting for the storage to write a checkpoint, 1s so far", last
    error, ends = child.stdout.splitlines()
    assert re.match(rf"cannot save in {tmp_path}: the storage has not responded for 1s; run the same command", error)
    assert ends == "ends"
    with Checkpointer(tmp_path) as checkpoints:
        assert checkpoints.steps() == [1]


def test_incomplete_directories_are_ignored_and_removed_by_the_next_writer(tmp_path):
    for name in ("00000009.orbax-checkpoint-tmp", "00000008"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "manifest.ocdbt").write_bytes(b"half")
    (tmp_path / "notes").mkdir()
    with Checkpointer(tmp_path) as checkpoints:
        assert checkpoints.latest() is None
        checkpoints.save(8, {"w": jnp.ones(2)})
    assert sorted(path.name for path in tmp_path.iterdir()) == ["00000008", "notes"]


def test_a_damaged_checkpoint_is_refused_in_one_line(tmp_path):
    tree = {"w": np.random.default_rng(0).normal(size=(64, 64)).astype(np.float32)}
    save_params(tmp_path / "net", tree)
    files = [path for path in (tmp_path / "net").rglob("*") if path.is_file()]
    largest = max(files, key=lambda path: path.stat().st_size)
    flipped = bytearray(largest.read_bytes())
    flipped[len(flipped) // 2] ^= 1
    index_file = tmp_path / "net" / "checkpoint.json"
    altered = index_file.read_text().replace('"float32"', '"float16"')
    for path, content, message in [
        (largest, largest.read_bytes()[:-5], r"has \d+ bytes instead of \d+"),
        (largest, bytes(flipped), "has been altered"),
        (largest, None, "is missing"),
        (index_file, index_file.read_bytes()[:50], "checkpoint.json cannot be read"),
        (index_file, altered.encode(), "checkpoint.json has been altered"),
        (index_file, None, "no checkpoint in"),
    ]:
        original = path.read_bytes()
        path.unlink()
        if content is not None:
            path.write_bytes(content)
        with pytest.raises(CheckpointError, match=message) as error:
            load_params(tmp_path / "net")
        assert "\n" not in str(error.value)
        path.write_bytes(original)
    assert identical(load_params(tmp_path / "net"), tree)


def test_a_failed_write_is_reported(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(CheckpointError, match="cannot save"):
        save_params(tmp_path / "file" / "net", {"w": jnp.ones(1)})


def test_components_are_replaced_completely(tmp_path):
    params = {"unet": {"kernel": jnp.ones((2, 2), jnp.bfloat16)}, "bias": jnp.zeros(2)}
    save_params(tmp_path / "deep" / "unet", params, {"stage": "ldm.image"})
    save_params(tmp_path / "deep" / "unet", {"bias": jnp.ones(3)}, {"stage": "joint"})
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["unet"]
    loaded = load_params(tmp_path / "deep" / "unet")
    assert isinstance(loaded["bias"], np.ndarray) and identical(loaded, {"bias": np.ones(3, np.float32)})
    assert read_meta(tmp_path / "deep" / "unet") == {"stage": "joint"}
    with pytest.raises(CheckpointError, match="missing    unet/kernel"):
        load_params(tmp_path / "deep" / "unet", abstract(params))
