"""Progress of a whole recipe, with a fake clock."""

import json

import pytest

from codi_jax.train.overall import Overall, critical_path, schedule_length
from codi_jax.train.recipe import open_run
from tests import toy

STAGES = ("codec.text", "codec.image", "bridging.text+image", "encode.text+image", "ldm.text", "ldm.image")
WEIGHTS = {"codec.text": 10.0, "codec.image": 20.0, "bridging.text+image": 30.0, "encode.text+image": 5.0}
STEPS = 100


class Clock:
    now = 1000.0

    def __call__(self):
        return self.now


class FakeRun:
    """A run whose stages are finished by calling `finish`; `seconds` is the total in their cost.json."""

    def __init__(self, workdir):
        config = toy.config()
        for name in STAGES:
            group, leaf = name.split(".")
            config.stages[group][leaf].scheduling_weight = WEIGHTS.get(name, 40.0)
        self._run, self._done = open_run(config, workdir), set()
        self.order, self.stage, self.directory = self._run.order, self._run.stage, self._run.directory

    def complete(self, name):
        return name in self._done

    def finish(self, name, seconds=None):
        self._done.add(name)
        if seconds is not None:
            self.directory(name).mkdir(parents=True)
            (self.directory(name) / "cost.json").write_text(json.dumps({"step": seconds / 2, "total": seconds}))


@pytest.fixture
def run(tmp_path):
    return FakeRun(tmp_path)


@pytest.fixture
def clock():
    return Clock()


def test_schedule_length_by_hand():
    needs = {"a": (), "b": (), "c": ("a",), "d": ("a", "b")}
    seconds = {"a": 3.0, "b": 2.0, "c": 1.0, "d": 4.0}
    priority = {"a": 7.0, "b": 6.0, "c": 1.0, "d": 4.0}
    assert schedule_length({}, seconds, needs, priority, 1) == 10
    assert schedule_length({}, seconds, needs, priority, 2) == 7  # a | b, then d from 3 to 7 beside c
    # a has 1 s left and one worker is free: b ends at 2, d begins then; c is done meanwhile
    assert schedule_length({"a": 1.0}, {k: seconds[k] for k in "bcd"}, needs, priority, 2) == 6
    assert schedule_length({"a": 2.5}, {}, needs, priority, 1) == 2.5
    assert schedule_length({}, {}, needs, priority, 2) == 0


def test_no_time_left_is_shown_before_anything_is_timed(run, clock):
    overall = Overall(run, STAGES, clock=clock)
    assert overall.left() is None and overall.line() == "0 of 6 stages  0% done"
    overall.begin("codec.text")
    overall("codec.text", 10, STEPS)
    clock.now += 5
    assert overall.left() is None and overall.line() == "stage 1 of 6  1% done"


def test_time_left_of_sequential_stages(run, clock):
    """Weights are 10, 20, 30, 5, 40, 40; one unit takes 2 seconds."""
    overall = Overall(run, STAGES, clock=clock)
    overall.begin("codec.text")
    clock.now += 4  # compiles
    overall("codec.text", 0, STEPS)
    clock.now += 8
    overall("codec.text", 50, STEPS)
    # 4 + 100 · 0.16 = 20 s in total, so 2 s per unit; 8 s are left of this stage, and 135 units of the others
    assert overall.left() == pytest.approx(8 + 2 * 135)
    assert overall.line() == "stage 1 of 6  3% done  4m38s left"
    clock.now += 3  # since the last step
    assert overall.left() == pytest.approx(5 + 2 * 135)
    clock.now += 5
    run.finish("codec.text", 20.0)
    overall.end("codec.text")
    assert overall.left() == pytest.approx(2 * 135) and overall.line() == "1 of 6 stages  7% done  4m30s left"
    overall.begin("codec.image")
    clock.now += 15  # compiling: the estimate for this stage counts down
    assert overall.left() == pytest.approx(2 * 135 - 15)
    clock.now += 60  # longer than estimated: it does not become negative
    assert overall.left() == pytest.approx(2 * 115)


def test_time_left_of_parallel_stages_is_the_longest_path(run, clock):
    overall = Overall(run, STAGES, workers=2, clock=clock)
    for name in ("bridging.text+image", "codec.image"):
        overall.begin(name)
    overall("codec.image", 0, STEPS)
    overall("bridging.text+image", 0, STEPS)
    clock.now += 10
    overall("codec.image", 50, STEPS)
    overall("bridging.text+image", 50, STEPS)
    # 20 s each for weights of 20 and 30: 0.8 s per unit. In 10 s codec.text starts, 8 s; then encode, 4; both ldm, 32.
    assert overall.left() == pytest.approx(10 + 8 + 4 + 32)
    assert overall.line() == "stages 1 and 2 of 6  17% done  54s left"


def test_a_resumed_stage_counts_its_earlier_steps(run, clock):
    run.finish("codec.text", 30.0)  # 3 s per unit
    run.finish("codec.image", 60.0)
    overall = Overall(run, STAGES, clock=clock)
    assert overall.left() == pytest.approx(3 * 115) and overall.line() == "2 of 6 stages  21% done  5m45s left"
    overall.begin("bridging.text+image")
    clock.now += 5
    overall("bridging.text+image", 80, STEPS)  # an earlier session made 80 steps
    clock.now += 2
    overall("bridging.text+image", 82, STEPS)
    # 1 s per step: 18 s are left; 5 + 100 s for a weight of 30, and 90 s for the other 30
    scale = (30 + 60 + 105) / 60
    assert overall.left() == pytest.approx(18 + scale * 85)
    assert overall.line().startswith("stage 3 of 6  38% done")


def test_a_stage_that_stops_unfinished_is_not_done(run, clock):
    run.finish("codec.text", 30.0)
    overall = Overall(run, STAGES, clock=clock)
    overall.begin("codec.image")
    overall("codec.image", 50, STEPS)
    overall.end("codec.image")
    assert overall.line() == "1 of 6 stages  7% done  6m45s left"


def test_only_the_stages_of_this_call_count(run, clock):
    run.finish("codec.text", 30.0)
    overall = Overall(run, ("codec.image", "bridging.text+image"), clock=clock)
    assert overall.line() == "0 of 2 stages  0% done"


def test_a_line_is_due_every_few_seconds(run, clock, capsys):
    overall = Overall(run, STAGES, every=20, clock=clock)
    assert not overall.due()
    clock.now += 20
    assert overall.due()
    overall.print()
    assert capsys.readouterr().out == "all  0 of 6 stages  0% done\n" and not overall.due()


def test_critical_path(run):
    length = critical_path(run)
    assert length["ldm.image"] >= 40 and length["encode.text+image"] == 5 + max(length["ldm.image"], length["ldm.text"])
