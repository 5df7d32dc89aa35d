import subprocess
import sys

import pytest

from benchmarks.workers import Worker, WorkerError, best_seconds, take_turns

SERVED = "tests.benchmarks.served:Served"


def test_workers_keep_their_state_and_take_turns_in_alternating_order(tmp_path):
    log = tmp_path / "log"
    with Worker(SERVED, log) as one, Worker(SERVED, log) as two:
        timings = take_turns({"one": lambda: one.time("add", 1), "two": lambda: two.time("add", 2)}, 3)
        assert log.read_text().split() == ["1", "2", "2", "1", "1", "2"]
        assert (one.call("add", 0), two.call("add", 0)) == (3, 6)
    assert [len(timings[name]) for name in ("one", "two")] == [3, 3]
    assert all(t.seconds > 0 for t in timings["one"])


def test_a_failed_call_leaves_the_worker_usable_and_a_dead_one_is_reported(tmp_path):
    with Worker(SERVED, tmp_path / "log") as worker:
        with pytest.raises(WorkerError, match="ValueError: no such case"):
            worker.call("fail")
        assert worker.call("add", 4) == 4
        with pytest.raises(WorkerError, match="ended with 3"):
            worker.call("leave")


@pytest.mark.skipif(sys.platform != "linux", reason="the peak is read from /proc")
def test_memory_is_the_peak_of_a_call_alone(tmp_path):
    with Worker(SERVED, tmp_path / "log", threads=1) as worker:
        large, small = worker.memory("hold", 256), worker.memory("hold", 1)
        assert 250 << 20 < large - small < 260 << 20
        assert worker.call("cpus") == (1, "1")


def test_best_seconds_is_the_shortest_call():
    calls = []
    assert 0 < best_seconds(lambda: calls.append(sum(range(10_000))), 0.02) < 0.02
    assert len(calls) > 2


def test_a_worker_imports_no_framework():
    code = "import sys, benchmarks.workers, benchmarks.unet_cases; print({'jax', 'torch'} & set(sys.modules))"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "set()"
