"""TensorBoard events, written by the calling thread.

tensorboardX's SummaryWriter passes events to a background thread. On a full disk that thread dies with a traceback, and
the tenth event after that blocks forever. Here the error is raised in the caller.
"""

import importlib
import socket
import time
from pathlib import Path

import numpy as np
from tensorboardX import summary
from tensorboardX.record_writer import RecordWriter

_PREFIX = "events.out.tfevents."
_FLUSH = 10.0  # seconds
_proto = importlib.import_module("tensorboardX.proto.event_pb2")  # its classes are made when it is imported


class EventWriter:
    """One event file in an existing directory."""

    def __init__(self, directory: Path, resumed_step: int = 0):
        """Opens the file; of the other files there TensorBoard then ignores the events of `resumed_step` and later."""
        name = f"{_PREFIX}{int(time.time())}.{socket.gethostname()}.{resumed_step:08d}"
        self._file = RecordWriter(str(directory / name))
        self._flushed = time.monotonic()
        self._add(0, file_version="brain.Event:2")  # TensorBoard does not read a file without it
        if resumed_step:
            self._add(resumed_step, session_log=_proto.SessionLog(status=_proto.SessionLog.START))

    def _add(self, step: int, **fields: object) -> None:
        self._file.write(_proto.Event(wall_time=time.time(), step=step, **fields).SerializeToString())
        if time.monotonic() - self._flushed > _FLUSH:
            self.flush()

    def scalar(self, name: str, value: float, step: int) -> None:
        """Adds a scalar."""
        self._add(step, summary=summary.scalar(name, value))

    def text(self, name: str, text: str, step: int) -> None:
        """Adds a text in Markdown."""
        self._add(step, summary=summary.text(name, text))

    def image(self, name: str, image: np.ndarray, step: int) -> None:
        """Adds an image, uint8 [H, W, 3]."""
        self._add(step, summary=summary.image(name, image, dataformats="HWC"))

    def flush(self) -> None:
        """Flushes all events to disk."""
        self._file.flush()
        self._flushed = time.monotonic()

    def close(self) -> None:
        """Flushes and closes the file."""
        self._file.close()


def hosts(directory: Path) -> tuple[str, ...]:
    """The names of the machines that have opened an event file in a directory, in the order of time."""
    names = sorted(path.name.removeprefix(_PREFIX) for path in directory.glob(f"{_PREFIX}*"))
    # Seconds, host, resumed step; a host name may have dots.
    return tuple(dict.fromkeys(name.split(".", 1)[1].rpartition(".")[0] for name in names if name.count(".") > 1))
