import os
import socket
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
from jax.sharding import AxisType, Mesh

from codi_jax import cli
from codi_jax.config import ConfigError
from codi_jax.parallel import batch_rows, distributed, place_batch
from codi_jax.parallel.distributed import Processes, requested
from codi_jax.parallel.mesh import AXES

ROOT = Path(__file__).parents[2]
NO_TPU = {"TPU_SKIP_MDS_QUERY": "1"}  # as `import jax` leaves it where there are no chips
OWN = {"CODI_COORDINATOR": "host-0:1234", "CODI_PROCESSES": "4", "CODI_PROCESS": "3"}
SLURM = {"SLURM_JOB_ID": "7", "SLURM_STEP_NODELIST": "localhost", "SLURM_LOCALID": "0"}


# What the environment tells


def test_own_variables():
    arguments = {"coordinator_address": "host-0:1234", "num_processes": 4, "process_id": 3, "local_device_ids": []}
    assert requested(OWN) == Processes("CODI_PROCESSES", 4, arguments)
    assert requested({**OWN, "SLURM_NTASKS": "8"}) == requested(OWN)
    assert requested({**OWN, "CODI_PROCESSES": "1", "CODI_PROCESS": "0"}) is None


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"CODI_PROCESS": ""}, "CODI_PROCESS not set: CODI_COORDINATOR, CODI_PROCESSES, CODI_PROCESS are set together"),
        ({"CODI_COORDINATOR": "", "CODI_PROCESS": ""}, "CODI_COORDINATOR, CODI_PROCESS not set"),
        ({"CODI_PROCESSES": ""}, "CODI_PROCESSES not set"),
        ({"CODI_PROCESSES": "four"}, "CODI_PROCESSES: expected a number from 1 on, got 'four'"),
        ({"CODI_PROCESSES": "0"}, "CODI_PROCESSES: expected a number from 1 on, got '0'"),
        ({"CODI_PROCESS": "-1"}, "CODI_PROCESS: expected a number from 0 on, got '-1'"),
        ({"CODI_PROCESS": "4"}, "CODI_PROCESS=4: of 4 processes, the last is 3"),
        ({"CODI_COORDINATOR": "host-0"}, "CODI_COORDINATOR: expected HOST:PORT, got 'host-0'"),
        ({"CODI_COORDINATOR": ":1234"}, "CODI_COORDINATOR: expected HOST:PORT, got ':1234'"),
    ],
)
def test_own_variables_that_make_no_sense(change, message):
    with pytest.raises(ConfigError, match=f"^{message}"):
        requested({**OWN, **change})


@pytest.mark.parametrize(
    ("environment", "told_by", "count", "arguments"),
    [
        ({"SLURM_NTASKS": "8", "SLURM_STEP_TASKS_PER_NODE": "4(x2)"}, "Slurm", 8, {}),
        ({"SLURM_NTASKS": "2", "SLURM_STEP_TASKS_PER_NODE": "1(x2)"}, "Slurm", 2, {"local_device_ids": []}),
        ({"OMPI_COMM_WORLD_SIZE": "3", "OMPI_COMM_WORLD_LOCAL_SIZE": "3"}, "Open MPI", 3, {}),
        ({"OMPI_COMM_WORLD_SIZE": "3", "OMPI_COMM_WORLD_LOCAL_SIZE": "1"}, "Open MPI", 3, {"local_device_ids": []}),
        ({"KUBERNETES_SERVICE_HOST": "10.0.0.1", "JOB_COMPLETION_INDEX": "0"}, "the Kubernetes job", None, {}),
    ],
)
def test_processes_that_others_tell_of(environment, told_by, count, arguments):
    assert requested({**NO_TPU, **environment}) == Processes(told_by, count, arguments)


def test_tpus(monkeypatch):
    hosts = {"TPU_WORKER_HOSTNAMES": "a,b,c,d"}
    for chips in ({}, NO_TPU):  # a host whose chips are not to be seen must not go on alone either
        assert requested({**hosts, **chips}) == Processes("the TPU's environment", 4)
        assert requested({**hosts, **chips, "MEGASCALE_NUM_SLICES": "2"}) == Processes("the TPU's environment", 8)
    assert requested({"TPU_WORKER_HOSTNAMES": "a"}) is None
    assert requested({**hosts, "JAX_PLATFORMS": "cpu"}) is None
    for libtpu, told in ((None, None), ("there", Processes("the TPU's metadata"))):
        monkeypatch.setattr(distributed.importlib.util, "find_spec", lambda _, libtpu=libtpu: libtpu)
        assert requested({}) == told
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
def test_one_process(environment, monkeypatch):
    assert requested({**NO_TPU, **environment}) is None
    monkeypatch.setattr(jax.distributed, "initialize", lambda **_: pytest.fail("started"))
    distributed.start(None)
    assert distributed.first() and not distributed.several()
    assert distributed.agreed(2**40) == 2**40


# Refusals


def test_jobs_and_processes_do_not_go_together(capsys, tmp_path, monkeypatch):
    for name, value in OWN.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(SystemExit) as exit:
        cli.main(["train", f"--workdir={tmp_path / 'run'}", "--jobs=2"])
    assert exit.value.code == cli.EXIT_BAD_INPUT
    assert capsys.readouterr().err == "codi-jax: --jobs=2: parallel stages are not supported in a distributed run\n"
    assert not (tmp_path / "run").exists()


class Left(BaseException):
    pass


@pytest.fixture
def leaves(monkeypatch):
    """`os._exit` raises its code."""

    def leave(code):
        raise Left(code)

    monkeypatch.setattr(os, "_exit", leave)
    monkeypatch.setattr(jax.config, "update", lambda *_: None)


def test_a_start_that_fails_ends_the_process(leaves, capsys, monkeypatch):
    def fails(**_):
        raise RuntimeError("no route to host\nand much more")

    monkeypatch.setattr(jax.distributed, "initialize", fails)
    with pytest.raises(Left, match=str(distributed.EXIT_NOT_STARTED)):
        distributed.start(requested(OWN))
    joining, said = capsys.readouterr().err.splitlines()
    assert joining == "codi-jax: joining the processes of 4 that CODI_PROCESSES tells of"
    assert said.startswith(
        "codi-jax: the processes that CODI_PROCESSES tells of have not come together: no route to host; make each"
    )


def test_a_pod_of_which_jax_sees_one_process_is_no_pod(leaves, capsys, monkeypatch):
    monkeypatch.setattr(jax.distributed, "initialize", lambda **_: None)
    with pytest.raises(Left, match=str(distributed.EXIT_NOT_STARTED)):
        distributed.start(Processes("Slurm", 2))
    assert "have not come together: jax counts 1 process, not 2; " in capsys.readouterr().err


# For real


def free_port():
    with socket.socket() as found:
        found.bind(("localhost", 0))
        return str(found.getsockname()[1])


def children(mode, *environments):
    """This file, as a program, in a process for each environment; their (exit code, output)."""
    plain = {k: v for k, v in os.environ.items() if not k.startswith(("CODI_", "SLURM_", "XLA_FLAGS"))}
    plain |= {"PYTHONPATH": str(ROOT), "XLA_FLAGS": "--xla_force_host_platform_device_count=4"}
    running = [
        subprocess.Popen(
            [sys.executable, __file__, mode],
            env={**plain, **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for environment in environments
    ]
    outputs = [process.communicate(timeout=300)[0] for process in running]
    return [(process.returncode, output) for process, output in zip(running, outputs, strict=True)]


def test_two_processes_of_slurm_agree_and_each_places_the_rows_that_it_holds():
    step = {**SLURM, "JAX_COORDINATOR_PORT": free_port(), "SLURM_NTASKS": "2", "SLURM_STEP_TASKS_PER_NODE": "1(x2)"}
    for code, output in children("agree", *({**step, "SLURM_PROCID": str(k)} for k in range(2))):
        assert code == 0 and "all is well" in output, output


def test_who_waits_in_vain_says_so_and_leaves():
    own = {"CODI_COORDINATOR": f"localhost:{free_port()}", "CODI_PROCESSES": "2"}
    ((code, output),) = children("wait", {**own, "CODI_PROCESS": "1"})
    assert code == distributed.EXIT_NOT_STARTED, output
    assert output.splitlines()[-1].startswith(
        "codi-jax: the processes that CODI_PROCESSES tells of have not come together: not all were there after 2 s"
    )


@pytest.mark.slow
@pytest.mark.parametrize("which", [0, 1])
def test_an_error_in_one_process_ends_all_and_keeps_its_code(which):
    own = {"CODI_COORDINATOR": f"localhost:{free_port()}", "CODI_PROCESSES": "2", "FAILS": str(which)}
    results = children("fail", *({**own, "CODI_PROCESS": str(k)} for k in range(2)))  # within its timeout
    assert results[which][0] == 2, results
    assert results[1 - which][0] not in (0, 2), results


def _agree() -> None:
    distributed.start(requested())
    mine = jax.process_index()
    assert (jax.process_count(), jax.local_device_count(), jax.device_count()) == (2, 4, 8)
    assert distributed.several() and distributed.first() == (mine == 0)
    assert distributed.agreed(7 + mine) == 7
    whole = np.arange(48.0).reshape(16, 3)
    devices = np.array(jax.devices())
    dealt = devices.reshape(2, 4).T.reshape(-1)  # in turn, as no mesh of ours would
    for order, sizes, rows in (
        (devices, (8, 1, 1, 1), 8),
        (devices, (2, 2, 2, 1), 8),
        (devices, (1, 1, 8, 1), 16),  # every process holds it all
        (dealt, (4, 2, 1, 1), 8),  # every second part
        (dealt, (2, 2, 1, 2), 16),
    ):
        mesh = Mesh(order.reshape(sizes), AXES, axis_types=(AxisType.Auto,) * 4)
        own = batch_rows(mesh, 16)
        assert len(own) == rows and list(own) == sorted(own)
        placed = place_batch({"x": whole[own], "n": 3}, mesh)
        for shard in placed["x"].addressable_shards:
            np.testing.assert_array_equal(shard.data, whole[shard.index])
        fetched = distributed.fetch({**placed, "host": whole, "own": jax.numpy.ones(2)})
        for name, value in {"x": whole, "n": 3, "host": whole, "own": np.ones(2)}.items():
            np.testing.assert_array_equal(fetched[name], value)
    distributed.wait_for_all("the end")
    print("all is well", flush=True)


if __name__ == "__main__":
    if sys.argv[1] == "agree":
        _agree()
    elif sys.argv[1] == "wait":
        distributed.start(requested(), wait=2)
    else:
        distributed.start(requested())
        if os.environ["CODI_PROCESS"] == os.environ["FAILS"]:
            distributed.leave(2)
        try:
            distributed.wait_for_all("what never comes")
        except Exception:  # as `main` does: of whatever kind, since the collective decides how it breaks
            distributed.leave(1)
