import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np
import pytest
from jax.sharding import AxisType, Mesh

from codi_jax import cli
from codi_jax.cli import entry
from codi_jax.config import ConfigError
from codi_jax.exit_codes import EXIT_BAD_INPUT, EXIT_UNAVAILABLE
from codi_jax.metrics.base import compute, merge_processes
from codi_jax.metrics.captions import Captions, CiderD
from codi_jax.metrics.retrieval import Retrieval
from codi_jax.parallel import MeshConfig, batch_rows, distributed, make_mesh, place_batch
from codi_jax.parallel.distributed import Processes, requested
from codi_jax.parallel.mesh import AXES

ROOT = Path(__file__).parents[2]
NO_TPU = {"TPU_SKIP_MDS_QUERY": "1"}  # as `import jax` leaves it where there are no chips
OWN = {"CODI_COORDINATOR": "host-0:1234", "CODI_PROCESSES": "4", "CODI_PROCESS": "3"}
SLURM = {"SLURM_JOB_ID": "7", "SLURM_STEP_NODELIST": "localhost", "SLURM_LOCALID": "0"}


# Detection from the environment


def test_codi_variables_are_read():
    arguments = {"coordinator_address": "host-0:1234", "num_processes": 4, "process_id": 3, "local_device_ids": []}
    assert requested(OWN) == Processes("CODI_PROCESSES", 4, arguments)
    assert requested({**OWN, "SLURM_NTASKS": "8"}) == requested(OWN)
    assert requested({**OWN, "CODI_PROCESSES": "1", "CODI_PROCESS": "0"}) is None


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"CODI_PROCESS": ""},
            "CODI_PROCESS not set: set all of CODI_COORDINATOR, CODI_PROCESSES, CODI_PROCESS",
        ),
        ({"CODI_COORDINATOR": "", "CODI_PROCESS": ""}, "CODI_COORDINATOR, CODI_PROCESS not set"),
        ({"CODI_PROCESSES": ""}, "CODI_PROCESSES not set"),
        ({"CODI_PROCESSES": "four"}, "CODI_PROCESSES: expected an integer >= 1, got 'four'"),
        ({"CODI_PROCESSES": "0"}, "CODI_PROCESSES: expected an integer >= 1, got '0'"),
        ({"CODI_PROCESS": "-1"}, "CODI_PROCESS: expected an integer >= 0, got '-1'"),
        ({"CODI_PROCESS": "4"}, "CODI_PROCESS=4: the last of 4 processes is 3"),
        ({"CODI_COORDINATOR": "host-0"}, "CODI_COORDINATOR: expected HOST:PORT, got 'host-0'"),
        ({"CODI_COORDINATOR": ":1234"}, "CODI_COORDINATOR: expected HOST:PORT, got ':1234'"),
    ],
)
def test_invalid_codi_variables_are_refused(change, message):
    with pytest.raises(ConfigError, match=f"^{message}"):
        requested({**OWN, **change})


@pytest.mark.parametrize(
    ("environment", "source", "count", "arguments"),
    [
        ({"SLURM_NTASKS": "8", "SLURM_STEP_TASKS_PER_NODE": "4(x2)"}, "Slurm", 8, {}),
        ({"SLURM_NTASKS": "2", "SLURM_STEP_TASKS_PER_NODE": "1(x2)"}, "Slurm", 2, {"local_device_ids": []}),
        ({"OMPI_COMM_WORLD_SIZE": "3", "OMPI_COMM_WORLD_LOCAL_SIZE": "3"}, "Open MPI", 3, {}),
        ({"OMPI_COMM_WORLD_SIZE": "3", "OMPI_COMM_WORLD_LOCAL_SIZE": "1"}, "Open MPI", 3, {"local_device_ids": []}),
        ({"KUBERNETES_SERVICE_HOST": "10.0.0.1", "JOB_COMPLETION_INDEX": "0"}, "the Kubernetes job", None, {}),
    ],
)
def test_processes_of_schedulers_are_detected(environment, source, count, arguments):
    assert requested({**NO_TPU, **environment}) == Processes(source, count, arguments)


def test_tpu_processes_are_detected(monkeypatch):
    hosts = {"TPU_WORKER_HOSTNAMES": "a,b,c,d"}
    for chips in ({}, NO_TPU):  # a host that cannot see its chips must not continue alone either
        assert requested({**hosts, **chips}) == Processes("the TPU's environment", 4)
        assert requested({**hosts, **chips, "MEGASCALE_NUM_SLICES": "2"}) == Processes("the TPU's environment", 8)
    assert requested({"TPU_WORKER_HOSTNAMES": "a"}) is None
    assert requested({**hosts, "JAX_PLATFORMS": "cpu"}) is None
    for libtpu, expected in ((None, None), ("installed", Processes("the TPU's metadata"))):
        monkeypatch.setattr(distributed.importlib.util, "find_spec", lambda _, libtpu=libtpu: libtpu)
        assert requested({}) == expected
        assert requested(NO_TPU) is None


@pytest.mark.parametrize(
    "environment",
    [
        {},
        {"CODI_PROCESSES": "1", "SLURM_NTASKS": "8"},
        {"SLURM_NTASKS": "1"},
        {"OMPI_COMM_WORLD_SIZE": "1"},
        {"KUBERNETES_SERVICE_HOST": "10.0.0.1"},
    ],
)
def test_a_single_process_starts_nothing(environment, monkeypatch):
    assert requested({**NO_TPU, **environment}) is None
    monkeypatch.setattr(jax.distributed, "initialize", lambda **_: pytest.fail("started"))
    distributed.start(None)
    assert distributed.is_primary() and not distributed.is_multiprocess()
    assert distributed.broadcast_from_primary(2**40) == 2**40


# Refusals


def test_jobs_are_refused_with_several_processes(capsys, tmp_path, monkeypatch):
    for name, value in OWN.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(SystemExit) as exit:
        cli.main(["train", f"--workdir={tmp_path / 'run'}", "--jobs=2"])
    assert exit.value.code == EXIT_BAD_INPUT
    assert capsys.readouterr().err == "codi-jax: --jobs=2: parallel stages are not supported in a distributed run\n"
    assert not (tmp_path / "run").exists()


class Exited(BaseException):
    pass


@pytest.mark.parametrize("primary", [True, False])
def test_an_error_of_process_0_is_raised_on_all(monkeypatch, primary):
    def act():
        raise OSError("no space")

    monkeypatch.setattr(distributed, "is_primary", lambda: primary)
    monkeypatch.setattr(distributed, "broadcast_from_primary", lambda failed: failed if primary else True)
    expected = (OSError, "^no space$") if primary else (ConfigError, "^process 0 could not save; its line says why$")
    with pytest.raises(expected[0], match=expected[1]):
        distributed.run_on_primary(act, "save")
    monkeypatch.setattr(distributed, "broadcast_from_primary", lambda failed: False)
    done = []
    distributed.run_on_primary(lambda: done.append("once"), "save")
    assert done == ["once"] * primary


@pytest.fixture
def exits(monkeypatch):
    """`os._exit` raises its code."""

    def exit_process(code):
        raise Exited(code)

    monkeypatch.setattr(os, "_exit", exit_process)
    monkeypatch.setattr(jax.config, "update", lambda *_: None)


def test_a_start_that_fails_ends_the_process(exits, capsys, monkeypatch):
    def fails(**_):
        raise RuntimeError("no route to host\nand much more")

    monkeypatch.setattr(jax.distributed, "initialize", fails)
    with pytest.raises(Exited, match=str(EXIT_UNAVAILABLE)):
        distributed.start(requested(OWN))
    connecting, error = capsys.readouterr().err.splitlines()
    assert connecting == "codi-jax: connecting to the 4 processes named by CODI_PROCESSES"
    assert error.startswith(
        "codi-jax: the processes named by CODI_PROCESSES did not connect: no route to host; run the same"
    )


def test_fewer_processes_than_named_end_the_process(exits, capsys, monkeypatch):
    monkeypatch.setattr(jax.distributed, "initialize", lambda **_: None)
    with pytest.raises(Exited, match=str(EXIT_UNAVAILABLE)):
        distributed.start(Processes("Slurm", 2))
    assert "did not connect: jax sees 1 process, not 2; " in capsys.readouterr().err


# With real processes


def free_port():
    with socket.socket() as bound:
        bound.bind(("localhost", 0))
        return str(bound.getsockname()[1])


def children(mode, *environments):
    """Runs this file as a program, one process per environment; returns their (exit code, output)."""
    base = {k: v for k, v in os.environ.items() if not k.startswith(("CODI_", "SLURM_", "XLA_FLAGS"))}
    base |= {"PYTHONPATH": str(ROOT), "XLA_FLAGS": "--xla_force_host_platform_device_count=4"}
    running = [
        subprocess.Popen(
            [sys.executable, __file__, mode],
            env={**base, **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for environment in environments
    ]
    outputs = [process.communicate(timeout=300)[0] for process in running]
    return [(process.returncode, output) for process, output in zip(running, outputs, strict=True)]


@pytest.mark.slow
def test_two_slurm_processes_connect_and_each_places_the_rows_that_it_holds():
    step = {**SLURM, "JAX_COORDINATOR_PORT": free_port(), "SLURM_NTASKS": "2", "SLURM_STEP_TASKS_PER_NODE": "1(x2)"}
    for code, output in children("agree", *({**step, "SLURM_PROCID": str(k)} for k in range(2))):
        assert code == 0 and "all checks passed" in output, output


def test_a_process_that_waits_too_long_exits_with_one_line():
    environment = {"CODI_COORDINATOR": f"localhost:{free_port()}", "CODI_PROCESSES": "2"}
    ((code, output),) = children("start", {**environment, "CODI_PROCESS": "1", "CODI_START_SECONDS": "2"})
    assert code == EXIT_UNAVAILABLE, output
    assert output.splitlines()[-1].startswith(
        "codi-jax: the processes named by CODI_PROCESSES did not connect: not all connected within 2 s"
    )


@pytest.mark.parametrize("which", [0, pytest.param(1, marks=pytest.mark.slow)])
def test_a_killed_process_ends_the_others_with_one_line_that_names_its_host(which):
    """Process 0 runs the coordination service, so its loss is noticed in another way."""
    environment = {"CODI_COORDINATOR": f"localhost:{free_port()}", "CODI_PROCESSES": "2", "CODI_HEARTBEAT_SECONDS": "3"}
    each = ({**environment, "CODI_PROCESS": str(k), "FAILS": str(which)} for k in range(2))
    killed, (code, output) = (results := children("killed", *each))[which], results[1 - which]
    assert killed[0] == -signal.SIGKILL and code == EXIT_UNAVAILABLE, results
    said = [line for line in output.splitlines() if line.startswith("codi-jax: process")]
    (line,) = said
    assert line.startswith(f"codi-jax: process {which} on {socket.gethostname()} is gone: ")
    assert line.endswith("; run the same command again") and "Check failure stack trace" not in output


@pytest.mark.slow
@pytest.mark.parametrize("which", [0, 1])
def test_an_error_in_one_process_ends_all_with_its_exit_code(which):
    environment = {"CODI_COORDINATOR": f"localhost:{free_port()}", "CODI_PROCESSES": "2", "FAILS": str(which)}
    results = children("fail", *({**environment, "CODI_PROCESS": str(k)} for k in range(2)))  # each within its timeout
    assert [code for code, _ in results] == [2, 2], results
    assert f"process {which} on {socket.gethostname()} ended with exit code 2" in results[1 - which][1]


@pytest.mark.parametrize("value", ["soon", "0"])
def test_invalid_seconds_are_refused(value, monkeypatch):
    monkeypatch.setenv("CODI_HEARTBEAT_SECONDS", value)
    with pytest.raises(ConfigError, match=f"CODI_HEARTBEAT_SECONDS: expected an integer >= 1, got '{value}'"):
        distributed.start(requested(OWN))


def _metrics_of_two_processes(mine: int) -> None:
    """Captions and embeddings of two processes, of which the first has one item and the second three."""
    captions, images = ["a b c d", "a c", "b d b c a", "e f g h"], np.eye(4)[[0, 1, 2, 2]] + 0.1
    groups = np.array([0, 0, 1, 2, 3, 3])
    texts = images[groups] + 0.01 * np.arange(24).reshape(6, 4)
    items, rows = (slice(0, 1), slice(0, 2)) if mine == 0 else (slice(1, 4), slice(2, 6))
    references = [[caption[2:], caption] for caption in captions]
    cider = CiderD()
    state = cider.update(cider.init(), Captions(captions[items], references[items]))
    assert cider.compute(merge_processes(cider, state)) == compute(cider, [Captions(captions, references)])
    mesh = make_mesh(MeshConfig())
    whole, metric = compute(Retrieval(), [(images, texts, groups)]), Retrieval(mesh=mesh)
    own = metric.update(metric.init(), (images[items], texts[rows], groups[rows] - items.start))
    assert metric.compute(own) == whole == Retrieval().compute(merge_processes(Retrieval(), own))
    assert whole["a_to_b/n"] == 4 and whole["a_to_b/recall_1"] == 0.75 and whole["b_to_a/n"] == 6
    none = metric.init()  # one process without rows
    full = metric.update(metric.init(), (images, texts, groups))
    assert metric.compute(full if mine else none) == whole


def _agree() -> None:
    distributed.start(requested())
    mine = jax.process_index()
    assert (jax.process_count(), jax.local_device_count(), jax.device_count()) == (2, 4, 8)
    assert distributed.is_multiprocess() and distributed.is_primary() == (mine == 0)
    assert distributed.broadcast_from_primary(7 + mine) == 7
    batch = np.arange(48.0).reshape(16, 3)
    devices = np.array(jax.devices())
    interleaved = devices.reshape(2, 4).T.reshape(-1)  # alternating processes, unlike our meshes
    for order, sizes, rows in (
        (devices, (8, 1, 1, 1), 8),
        (devices, (2, 2, 2, 1), 8),
        (devices, (1, 1, 8, 1), 16),  # every process holds all parts
        (interleaved, (4, 2, 1, 1), 8),  # every second part
        (interleaved, (2, 2, 1, 2), 16),
    ):
        mesh = Mesh(order.reshape(sizes), AXES, axis_types=(AxisType.Auto,) * 4)
        held = batch_rows(mesh, 16)
        assert len(held) == rows and list(held) == sorted(held)
        placed = place_batch({"x": batch[held], "n": 3}, mesh)
        for shard in placed["x"].addressable_shards:
            np.testing.assert_array_equal(shard.data, batch[shard.index])
        fetched = distributed.fetch({**placed, "host": batch, "local": jax.numpy.ones(2)})
        for name, value in {"x": batch, "n": 3, "host": batch, "local": np.ones(2)}.items():
            np.testing.assert_array_equal(fetched[name], value)
    gathered = distributed.gather({"x": np.float64([0.1 + mine]), "n": mine})  # 0.1 is not exact in float32
    assert gathered == [{"x": np.float64([0.1]), "n": 0}, {"x": np.float64([1.1]), "n": 1}]
    uneven = distributed.gather((np.arange(3.0)[: 3 * mine], np.full((1 + mine, 2), mine, np.uint8)))
    assert [x.tolist() for tree in uneven for x in tree] == [[], [[0, 0]], [0, 1, 2], [[1, 1], [1, 1]]]
    assert [x.dtype for x in uneven[0]] == [np.float64, np.uint8]
    _metrics_of_two_processes(mine)
    distributed.wait_for_all("the end")
    print("all checks passed", flush=True)


if __name__ == "__main__":
    if sys.argv[1] == "agree":
        _agree()
    else:
        distributed.start(requested())
        fails = os.environ["CODI_PROCESS"] == os.environ.get("FAILS")
        if sys.argv[1] == "fail" and fails:
            distributed.exit_process(2)
        if sys.argv[1] == "killed" and fails:
            distributed.wait_for_all("both have read the other's host name")
            time.sleep(1)
            os.kill(os.getpid(), signal.SIGKILL)
        if sys.argv[1] == "killed":
            distributed.wait_for_all("both have read the other's host name")
        try:
            distributed.wait_for_all("never reached by the other")
        except Exception as error:  # as `main` does; the kind of the error depends on the collective
            entry.end_on_error(error, None)
