import io
import json
import math
import struct
import time

import jax.numpy as jnp
import pytest
from tensorboardX.proto.event_pb2 import Event

from codi_jax.config import ConfigError
from codi_jax.progress import duration
from codi_jax.train import metrics
from codi_jax.train.metrics import Clock, MetricWriter, Progress


def lines(directory):
    return [json.loads(line) for line in (directory / "metrics.jsonl").read_text().splitlines()]


def events(directory):
    """All TensorBoard events: a TFRecord is length (8 bytes), its CRC (4), the data, its CRC (4)."""
    found = []
    for path in sorted(directory.glob("events.out.tfevents.*")):
        data = path.read_bytes()
        while data:
            (length,) = struct.unpack("<Q", data[:8])
            found.append(Event.FromString(data[12 : 12 + length]))
            data = data[16 + length :]
    return found


def scalars(directory):
    return [(e.step, v.tag, v.simple_value) for e in events(directory) for v in e.summary.value]


def test_scalars_are_written_to_both_files(tmp_path):
    with MetricWriter(tmp_path / "new" / "stage") as writer:
        writer.write(0, {"loss": jnp.float32(0.5), "grad_norm": 2})
        writer.write(1, {"loss": jnp.float32(jnp.nan), "grad_norm": math.inf})
        writer.write(2, {"loss": 0.25})
    assert lines(tmp_path / "new" / "stage") == [
        {"step": 0, "loss": 0.5, "grad_norm": 2.0},
        {"step": 1, "loss": None, "grad_norm": None},
        {"step": 2, "loss": 0.25},
    ]
    assert scalars(tmp_path / "new" / "stage") == [(0, "loss", 0.5), (0, "grad_norm", 2.0), (2, "loss", 0.25)]


def test_a_resumed_stage_writes_no_duplicates(tmp_path):
    with MetricWriter(tmp_path) as writer:
        for step in range(5):
            writer.write(step, {"loss": step})
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 5, "lo')  # a kill in the middle of a line
    with MetricWriter(tmp_path, resumed_step=3) as writer:
        assert [line["step"] for line in lines(tmp_path)] == [0, 1, 2]
        for step in range(3, 6):
            writer.write(step, {"loss": 10 * step})
    assert [(line["step"], line["loss"]) for line in lines(tmp_path)] == [
        (0, 0),
        (1, 1),
        (2, 2),
        (3, 30),
        (4, 40),
        (5, 50),
    ]
    assert [e.step for e in events(tmp_path) if e.session_log.status == 1] == [3]  # TensorBoard purges from there on


def test_lines_are_on_disk_as_soon_as_they_are_written(tmp_path):
    writer = MetricWriter(tmp_path, tensorboard=False)
    writer.write(0, {"loss": 1.0})
    assert lines(tmp_path) == [{"step": 0, "loss": 1.0}]  # without close
    writer.close()
    assert not events(tmp_path)


def test_a_foreign_file_is_not_overwritten(tmp_path):
    (tmp_path / "metrics.jsonl").write_text('{"step": 0}\nloss 3\n')
    with pytest.raises(ConfigError, match=r"metrics.jsonl, line 2: not a line of metrics: 'loss 3'"):
        MetricWriter(tmp_path, resumed_step=1)
    assert (tmp_path / "metrics.jsonl").read_text() == '{"step": 0}\nloss 3\n'


class Pending:
    def __init__(self, ready):
        self.ready = ready

    def is_ready(self):
        return self.ready


@pytest.fixture
def now(monkeypatch):
    """A time that tests advance by hand."""
    time_ = [100.0]
    monkeypatch.setattr(metrics.time, "perf_counter", lambda: time_[0])
    monkeypatch.setattr(metrics.time, "monotonic", lambda: time_[0])
    return time_


def test_clock_assigns_every_second_once(now):
    clock = Clock()
    assert clock.share("data") == 0
    with clock.measure("step"):
        now[0] += 3
        with clock.measure("checkpoint"):
            now[0] += 1
        now[0] += 2
    now[0] += 50  # outside of any activity
    with clock.waiting(None):
        now[0] += 4
    assert clock.seconds == {"step": 5, "checkpoint": 1, "data": 4}
    assert clock.share("data") == 0.4


def test_fetching_while_the_device_computes_counts_as_step(now):
    clock = Clock()
    for ready in (False, True):
        with clock.waiting(Pending(ready)):
            now[0] += 1
    assert clock.seconds == {"step": 1, "data": 1}


def test_clock_survives_an_exception(now):
    clock = Clock()
    with pytest.raises(KeyError), clock.measure("step"):
        now[0] += 1
        raise KeyError
    with clock.measure("data"):
        now[0] += 1
    assert clock.seconds == {"step": 1, "data": 1}


def test_plain_progress_prints_every_few_seconds(now):
    out, clock = io.StringIO(), Clock()
    with clock.measure("data"):
        now[0] += 1
    with clock.measure("step"):
        now[0] += 3
    with Progress("ldm.image", 100, 32, start=40, clock=clock, every=10, stream=out) as progress:
        for taken in range(41, 53):
            now[0] += 2
            progress.update(taken, 0.123456, skipped=2 if taken > 50 else 0)
    assert out.getvalue().splitlines() == [
        "ldm.image  41/100  loss 0.1235  data wait 25%",
        "ldm.image  46/100  loss 0.1235  0.5 steps/s  16 samples/s  1m48s left  data wait 25%",
        "ldm.image  51/100  loss 0.1235  0.5 steps/s  16 samples/s  1m38s left  data wait 25%  2 skipped (not finite)",
        "ldm.image  52/100  loss 0.1235  0.5 steps/s  16 samples/s  1m36s left  data wait 25%  2 skipped (not finite)",
    ]


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_live_progress_on_a_terminal(monkeypatch):
    monkeypatch.setenv("COLUMNS", "140")
    monkeypatch.setenv("TERM", "xterm")
    out = Terminal()
    with Progress("joint.text+image", 4, 8, stream=out) as progress:
        for taken in range(1, 5):
            progress.update(taken, 1.5)
            time.sleep(0.01)
    shown = out.getvalue()
    assert "\x1b[" in shown and "joint.text+image" in shown and "4/4" in shown and "loss 1.5" in shown


class AllStages:
    """A fake `Overall`."""

    def __init__(self):
        self.calls, self.printed = [], 0

    def __call__(self, name, done, total):
        self.calls.append((name, done, total))

    def part(self):
        return 0.25

    def line(self):
        return "stage 3 of 9  25% done  6m10s left"

    def due(self):
        return not self.printed

    def print(self, stream):
        self.printed += 1
        print(f"all  {self.line()}", file=stream)


def test_the_progress_of_all_stages_has_its_own_line(now, monkeypatch):
    out, overall = io.StringIO(), AllStages()
    with Progress("ldm.image", 100, 32, every=10, stream=out, overall=overall) as progress:
        for taken in range(1, 8):
            now[0] += 4
            progress.update(taken)
    assert [line.split("  ")[:2] for line in out.getvalue().splitlines()] == [
        ["ldm.image", "1/100"],
        ["all", "stage 3 of 9"],  # when `due()` is true
        ["ldm.image", "4/100"],
        ["ldm.image", "7/100"],
    ]
    assert overall.calls == [("ldm.image", taken, 100) for taken in range(1, 8)]
    monkeypatch.setenv("COLUMNS", "140")
    monkeypatch.setenv("TERM", "xterm")
    live = Terminal()
    with Progress("ldm.image", 4, 8, stream=live, overall=overall) as progress:
        progress.update(2, 1.5)
    shown = live.getvalue()
    assert "2/4" in shown and "stage 3 of 9" in shown and "6m10s left" in shown and overall.printed == 1


def test_durations():
    assert [duration(s) for s in (0.4, 59.6, 187, 7500)] == ["0s", "1m00s", "3m07s", "2h05m"]
