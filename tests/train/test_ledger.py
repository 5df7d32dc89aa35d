"""cost.json: seconds and sessions of a stage."""

import json
import time

import pytest

from codi_jax.config import ConfigError
from codi_jax.train import ledger, metrics
from codi_jax.train.ledger import Ledger, core_seconds, stage_costs, wall_seconds
from codi_jax.train.metrics import Clock


@pytest.mark.parametrize(
    ("stages", "wall"),
    [
        ([[[0, 10]], [[2, 8]]], 10),  # one within the other
        ([[[0, 10]], [[5, 12]]], 12),  # overlapping
        ([[[0, 10], [100, 105]], [[10, 20]]], 25),  # interrupted for a while, and one after the other
        ([[[5, 6], [1, 2]]], 2),
    ],
)
def test_wall_time_is_counted_once_and_only_while_a_stage_runs(stages, wall):
    assert wall_seconds([{"sessions": sessions} for sessions in stages]) == wall


def test_seconds_are_unknown_if_one_stage_lacks_them():
    assert wall_seconds([{"sessions": [[0, 1]]}, {"total": 3.0}]) is None and wall_seconds([]) is None
    assert core_seconds([{"core_seconds": 1.5}, {"core_seconds": 2.0}]) == 3.5
    assert core_seconds([{"core_seconds": 1.5}, {}]) is None


class Time:
    """A clock that tests advance by hand; the processor is busy half of the time."""

    def __init__(self):
        self.now = 1e9

    def time(self):
        return self.now

    def perf_counter(self):
        return self.now - 5e8

    def process_time(self):
        return self.now / 2


@pytest.fixture
def clock(monkeypatch):
    fake = Time()
    for module in (ledger, metrics):
        monkeypatch.setattr(module, "time", fake)
    return fake


def session(path, clock, seconds):
    """A session that saves a checkpoint after `seconds` and is killed after another `seconds`."""
    recorder = ledger.Ledger(path, metrics.Clock())
    with recorder.clock.measure("step"):
        clock.now += seconds
        recorder.write()
        clock.now += seconds
    return json.loads(path.read_text())


def test_time_between_sessions_does_not_count(tmp_path, clock):
    first = session(tmp_path / "cost.json", clock, 10)
    assert first["sessions"] == [[1e9, 1e9 + 10]] and first["core_seconds"] == 5
    clock.now += 1000
    both = session(tmp_path / "cost.json", clock, 7)
    assert both["sessions"] == [[1e9, 1e9 + 10], [1e9 + 1020, 1e9 + 1027]]
    assert wall_seconds([both]) == both["total"] == 17 and core_seconds([both]) == 8.5
    assert sum(seconds for activity, seconds in both.items() if activity not in ledger.COUNTS) == 17


def test_goodput_of_killed_sessions_is_that_by_hand(tmp_path, clock):
    """20 steps of a second in two sessions, each of which starts in five seconds; the first is killed."""
    path = tmp_path / "cost.json"

    def run(start, logged, steps):
        recorder = ledger.Ledger(path, metrics.Clock())
        with recorder.clock.measure("start"):
            clock.now += 5
        recorder.resume(start, logged)
        for done in range(start + 1, start + steps + 1):
            with recorder.clock.measure("step"):
                clock.now += 1
            recorder.reached = done
            recorder.write()
        return recorder

    run(0, 0, 10)  # the last checkpoint is of eight steps, the last metrics are of nine
    clock.now += 1000  # until it is started again
    cost = run(8, 9, 12).cost()
    assert cost["lost_steps"] == 2 and cost["reached"] == 20
    assert ledger.goodput(cost, 20) == pytest.approx(20 / (5 + 10 + 5 + 12))


def test_seconds_of_a_killed_session_are_kept_without_a_checkpoint(tmp_path, monkeypatch):
    """The regular writes include the activity that is going on."""
    every = ledger.calling_every
    monkeypatch.setattr(ledger, "calling_every", lambda seconds, act: every(seconds / 100, act))
    recorder = ledger.Ledger(tmp_path / "cost.json", metrics.Clock())
    with recorder.updating(), recorder.clock.measure("compile"):
        deadline = time.monotonic() + 20
        while not (tmp_path / "cost.json").exists() or json.loads(recorder._path.read_text()).get("compile", 0) < 0.1:
            assert time.monotonic() < deadline
            time.sleep(0.01)


def test_writing_repeatedly_keeps_one_session(tmp_path, clock):
    recorder = ledger.Ledger(tmp_path / "cost.json", metrics.Clock())
    for _ in range(3):
        clock.now += 2
        recorder.write()
    assert wall_seconds([recorder.cost()]) == 6 and len(recorder.cost()["sessions"]) == 1


def test_a_cost_file_without_sessions_stays_without_them(tmp_path, clock):
    (tmp_path / "cost.json").write_text('{"step": 50.0, "total": 50.0}')
    cost = session(tmp_path / "cost.json", clock, 1)
    assert cost["total"] == 51 and wall_seconds([cost]) is None and core_seconds([cost]) is None


@pytest.mark.parametrize("content", ["", "[]", '{"total": 1'])
def test_a_damaged_file_is_named(tmp_path, clock, content):
    (tmp_path / "stages" / "a").mkdir(parents=True)
    path = tmp_path / "stages" / "a" / "cost.json"
    path.write_text(content)
    for read in (lambda: Ledger(path, Clock()), lambda: stage_costs(tmp_path)):
        with pytest.raises(ConfigError, match=r"cost\.json: not (JSON|a JSON object).*; delete it") as error:
            read()
        assert "\n" not in str(error.value)
