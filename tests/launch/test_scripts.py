"""The launch files of a shell, run for real against stand-ins for what they call."""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

LAUNCH = Path(__file__).parents[2] / "launch"
QUEUED, SLURM = LAUNCH / "tpu_queued_resource.sh", LAUNCH / "slurm.sbatch"
DEVICE = LAUNCH.parent / "benchmarks" / "device.sh"
SCRIPTS = (QUEUED, SLURM, LAUNCH / "venv.sh", DEVICE, *(LAUNCH.parent / ".ci" / name for name in ("run", "wheel")))
GIVEN = ("--name=n", "--zone=z", "--type=t", "--repository=r", "--config=c.py:a=1,b=x y", "--workdir=gs://b/run")

# A fake gcloud: `states` has the states of the queued resource, one per line, the last repeated; `codes` has the exit
# codes of training in the same way.
GCLOUD = """#!/usr/bin/env bash
next() { head -n 1 "$1"; if (($(wc -l <"$1") > 1)); then sed -i 1d "$1"; fi; }
cd "$(dirname "$0")"
case "$*" in
    *describe*) next states ;;
    *codi-jax\\ train*) echo "$*" >>calls; exit "$(next codes)" ;;
    *) echo "$*" >>calls ;;
esac
"""
SRUN = """#!/usr/bin/env bash
echo "srun $*" >>"$(dirname "$0")/calls"
trap 'exit 75' TERM
if [[ $* == *wait* ]]; then
    for _ in $(seq 100); do sleep 0.1; done
fi
exit "${CODE:-0}"
"""


def fake_command(folder, name, text):
    (folder / name).write_text(text)
    (folder / name).chmod(0o755)


def environment(folder, **variables):
    return {**os.environ, "PATH": f"{folder}:{os.environ['PATH']}", "POLL_SECONDS": "0", **variables}


def queued(folder, *arguments, states=("ACTIVE",), codes=(0,)):
    """Runs the script; returns its exit code, standard error and the calls of gcloud."""
    fake_command(folder, "gcloud", GCLOUD)
    (folder / "states").write_text("".join(f"{state}\n" for state in states))
    (folder / "codes").write_text("".join(f"{code}\n" for code in codes))
    done = subprocess.run([QUEUED, *arguments], env=environment(folder), capture_output=True, text=True, timeout=60)
    calls = (folder / "calls").read_text().splitlines() if (folder / "calls").exists() else []
    return done.returncode, done.stderr, calls


def trained(calls):
    return [call for call in calls if "codi-jax train" in call]


def test_shellcheck_finds_nothing():
    shellcheck = shutil.which("shellcheck", path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    assert shellcheck is not None, "installed by the extra `test`"
    done = subprocess.run([shellcheck, *SCRIPTS], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_bash_syntax(script):
    assert subprocess.run(["bash", "-n", script]).returncode == 0


def test_a_preempted_run_is_resumed(tmp_path):
    code, stderr, calls = queued(tmp_path, *GIVEN, "--", "--stage=ldm.image", codes=(75, 75, 0))
    assert code == 0, stderr
    assert len(trained(calls)) == 3 and len(set(trained(calls))) == 1  # the same command each time, on all workers
    assert "--worker=all" in trained(calls)[0]
    assert r"--config=c.py:a=1\,b=x\ y --workdir=gs://b/run --stage=ldm.image" in trained(calls)[0]
    assert calls[-1].startswith("compute tpus queued-resources delete n")


def test_failures_are_retried_up_to_a_limit_in_a_row(tmp_path):
    code, stderr, calls = queued(tmp_path, *GIVEN, "--retries=2", codes=(1, 1, 75, 1, 1, 7))
    assert code == 7 and "7, 3 times in a row; giving up" in stderr
    assert len(trained(calls)) == 6
    assert calls[-1].startswith("compute tpus queued-resources delete n")  # it would be billed
    assert sum("delete" in call for call in calls) == 1


def test_a_tpu_can_be_kept_for_debugging(tmp_path):
    code, _, calls = queued(tmp_path, *GIVEN, "--keep", codes=(2,))
    assert code == 2 and not any("delete" in call for call in calls)


def test_a_lost_host_is_retried(tmp_path):
    code, stderr, calls = queued(tmp_path, *GIVEN, codes=(69, 69, 0))
    assert code == 0 and len(trained(calls)) == 3, stderr


def test_processes_of_an_earlier_start_are_ended_first(tmp_path):
    _, _, calls = queued(tmp_path, *GIVEN, codes=(69, 0))
    order = ["stop" if "pkill" in c else "train" if "codi-jax train" in c else "" for c in calls]
    assert [step for step in order if step] == ["stop", "train"] * 2
    stop = next(call for call in calls if "pkill" in call).partition("--command=")[2]
    name = f"left-{os.getpid()}-{time.monotonic_ns()}"  # of this test alone
    assert stop.count("[c]odi-jax train") == 2
    left = subprocess.Popen(["bash", "-c", f"exec -a {name} sleep 60"])
    try:
        time.sleep(0.2)
        done = subprocess.run(["bash", "-c", stop.replace("[c]odi-jax train", f"[l]{name[1:]}")], timeout=60)
        assert done.returncode == 0 and left.wait(10) == -signal.SIGTERM
    finally:
        left.kill()


def test_an_argument_error_is_not_retried(tmp_path):
    code, _, calls = queued(tmp_path, *GIVEN, codes=(2,))
    assert code == 2 and len(trained(calls)) == 1 and "delete" in calls[-1]


def test_a_preempted_tpu_is_requested_again_without_counting_a_failure(tmp_path):
    states = ("", "WAITING_FOR_RESOURCES", "ACTIVE", "SUSPENDED", "SUSPENDED", "", "ACTIVE")
    code, stderr, calls = queued(tmp_path, *GIVEN, "--spot", "--retries=0", "--keep", states=states, codes=(255, 0))
    assert code == 0, stderr
    what = [
        "create" if "create" in c else "delete" if "delete" in c else "train" if "codi-jax train" in c else ""
        for c in calls
    ]
    assert what == ["create", "", "", "train", "delete", "create", "", "", "train"]
    assert all("--spot" in call for call in calls if "create" in call)


def test_several_slices_are_one_queued_resource(tmp_path):
    code, stderr, calls = queued(tmp_path, *GIVEN, "--slices=2", states=("", "ACTIVE"))
    assert code == 0, stderr
    assert "--node-prefix=n --node-count=2" in calls[0] and "--node-id" not in calls[0]
    (call,) = trained(calls)
    assert call.startswith("compute tpus queued-resources ssh n --zone=z --node=all --worker=all --command=")


def test_a_dry_run_only_prints_the_commands(tmp_path):
    done = subprocess.run([QUEUED, "--dry-run", *GIVEN], env=environment(tmp_path), capture_output=True, text=True)
    lines = done.stdout.splitlines()
    assert done.returncode == 0 and [line.split()[:4] for line in lines] == [
        ["gcloud", "compute", "tpus", kind]
        for kind in ("queued-resources", "tpu-vm", "tpu-vm", "tpu-vm", "queued-resources")
    ]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "--name=… is missing"),
        (GIVEN[:-1], "--workdir=… is missing"),
        ((*GIVEN[:-1], "--workdir=/shared/run"), "workers share no disk"),
        ((*GIVEN, "--slices=0"), "--slices=0: not a positive number"),
        ((*GIVEN, "--retries=many"), "--retries=many: not a number"),
        ((*GIVEN, "--zones=z"), "unknown argument --zones=z"),
    ],
)
def test_arguments_are_checked(tmp_path, arguments, message):
    code, stderr, calls = queued(tmp_path, *arguments)
    assert code == 2 and message in stderr and stderr.count("\n") == 1 and not calls


def test_help(tmp_path):
    done = subprocess.run([QUEUED, "--help"], capture_output=True, text=True)
    assert done.returncode == 0 and done.stdout.startswith("usage: ") and not done.stderr


@pytest.fixture
def slurm(tmp_path):
    fake_command(tmp_path, "srun", SRUN)
    fake_command(tmp_path, "scontrol", '#!/usr/bin/env bash\necho "scontrol $*" >>"$(dirname "$0")/calls"\n')

    def start(*arguments, code=0):
        variables = environment(tmp_path, SLURM_JOB_ID="42", CODE=str(code))
        with (tmp_path / "log").open("w") as log:
            return subprocess.Popen(["bash", SLURM, *arguments], env=variables, stderr=log)

    def read(name):
        return (tmp_path / name).read_text().splitlines() if (tmp_path / name).exists() else []

    return start, read


RUN = ("--config=c.py", "--workdir=/shared/run")


@pytest.mark.parametrize(("code", "requeued"), [(0, False), (69, True), (75, True), (1, False), (2, False)])
def test_slurm_requeues_a_preempted_job(slurm, code, requeued):
    start, read = slurm
    assert start(*RUN, code=code).wait(60) == code
    assert read("calls")[0].endswith("codi-jax train --config=c.py --workdir=/shared/run")
    assert read("calls")[1:] == (["scontrol requeue 42"] if requeued else [])


def test_slurm_does_not_requeue_a_failing_job_for_ever(slurm, monkeypatch):
    start, read = slurm
    monkeypatch.setenv("SLURM_RESTART_COUNT", "99")
    assert start(*RUN, code=69).wait(60) == 69 and len(read("calls")) == 1
    assert start(*RUN, code=75).wait(60) == 75 and read("calls")[-1] == "scontrol requeue 42"


def test_slurm_forwards_sigterm_waits_for_the_checkpoint_and_requeues(slurm):
    start, read = slurm
    job = start(*RUN, "--stage=wait")
    while not read("calls"):
        time.sleep(0.05)
    time.sleep(0.2)
    job.send_signal(signal.SIGTERM)
    assert job.wait(60) == 75 and read("calls")[-1] == "scontrol requeue 42"


def test_slurm_needs_a_config_and_a_workdir(slurm):
    start, read = slurm
    job = start("--config=c.py")
    assert job.wait(60) == 2 and "usage: sbatch" in read("log")[0] and not read("calls")


# A fake Python that "measures": one measurement fails, one never ends.
PYTHON = """#!/usr/bin/env bash
case "$*" in
    *gradient*--batch=1\\ *) echo "out of memory"; exit 1 ;;
    *benchmarks.joint*) exec sleep 60 ;;
esac
for argument; do last=$argument; done
echo "$*" >"${last#--json=}"
"""


def test_measurements_of_a_device_have_limits_and_failures_are_reported(tmp_path):
    fake_command(tmp_path, "python", PYTHON)
    command = [DEVICE, f"--python={tmp_path}/python", "--dry-run", "--seconds=2", tmp_path / "out"]
    done = subprocess.run(command, cwd=LAUNCH.parent, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1, done.stderr
    lines = (tmp_path / "out" / "summary.txt").read_text().splitlines()
    assert [line.split(":")[0] for line in lines] == ["sampling", "training", "batches", "context", "joint"]
    assert lines[1] == "training: failed: out of memory"
    assert lines[4].startswith("joint: stopped after")
    assert "--tiny" in (tmp_path / "out" / "sampling.json").read_text()


def test_a_device_needs_a_folder():
    done = subprocess.run([DEVICE, "--dry-run"], cwd=LAUNCH.parent, capture_output=True, text=True)
    assert done.returncode == 2 and done.stderr.startswith("usage: ")
