"""TensorBoard events on a full disk; test_metrics tests their contents."""

import errno
import io
import threading

import pytest
from tensorboardX import record_writer

from codi_jax.train.events import EventWriter
from codi_jax.train.metrics import MetricWriter


@pytest.fixture
def full(monkeypatch):
    monkeypatch.setattr(record_writer, "open_file", lambda path: io.BufferedWriter(io.FileIO("/dev/full", "w")))


def test_a_full_disk_raises_in_the_caller(full, tmp_path):
    threads = set(threading.enumerate())
    events = EventWriter(tmp_path)
    with pytest.raises(OSError) as caught:
        for step in range(10_000):
            events.scalar("loss", 1.0, step)
    with pytest.raises(OSError):
        events.close()
    assert caught.value.errno == errno.ENOSPC
    assert not set(threading.enumerate()) - threads  # those of other tests may end meanwhile


def test_the_other_files_are_closed_even_so(full, tmp_path):
    writer = MetricWriter(tmp_path)
    writer.write(0, {"loss": 1.0})
    lines = writer._lines
    with pytest.raises(OSError):
        writer.close()
    assert lines.closed and (tmp_path / "metrics.jsonl").read_text() == '{"step": 0, "loss": 1.0}\n'
