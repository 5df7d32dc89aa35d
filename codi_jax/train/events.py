"""TensorBoard events, written by the thread that has them.

tensorboardX's SummaryWriter hands events to a thread of its own. That thread dies of a full disk, with a traceback, and
the tenth event after waits for it forever; here the error reaches the caller.
"""

import socket
import time
from pathlib import Path
from typing import Any

from tensorboardX import summary
from tensorboardX.proto.event_pb2 import Event, SessionLog
from tensorboardX.record_writer import RecordWriter

_FLUSH = 10.0  # seconds


class EventWriter:
    """One file of events in a directory that exists."""

    def __init__(self, directory: Path, resumed_step: int = 0):
        """Opens the file; TensorBoard will forget what other files there hold of `resumed_step` and later ones."""
        name = f"events.out.tfevents.{int(time.time())}.{socket.gethostname()}.{resumed_step:08d}"
        self._file = RecordWriter(str(directory / name))
        self._flushed = time.monotonic()
        self._add(0, file_version="brain.Event:2")  # without which TensorBoard does not read the file
        if resumed_step:
            self._add(resumed_step, session_log=SessionLog(status=SessionLog.START))

    def _add(self, step: int, **what: Any) -> None:
        self._file.write(Event(wall_time=time.time(), step=step, **what).SerializeToString())
        if time.monotonic() - self._flushed > _FLUSH:
            self.flush()

    def scalar(self, name: str, value: float, step: int) -> None:
        """Adds a number."""
        self._add(step, summary=summary.scalar(name, value))

    def text(self, name: str, text: str, step: int) -> None:
        """Adds a text in Markdown."""
        self._add(step, summary=summary.text(name, text))

    def image(self, name: str, image: Any, step: int) -> None:
        """Adds an image, uint8 [H, W, 3]."""
        self._add(step, summary=summary.image(name, image, dataformats="HWC"))

    def flush(self) -> None:
        """Brings all events to the disk."""
        self._file.flush()
        self._flushed = time.monotonic()

    def close(self) -> None:
        """Flushes and closes the file."""
        self._file.close()
