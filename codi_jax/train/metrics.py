"""Metrics of a stage while it trains: scalars in files, progress on the terminal, seconds by activity.

`MetricWriter` appends one JSON object per logged step to `metrics.jsonl` and the same scalars to TensorBoard events.
`step` is the index of the step, from 0. A stage resumed at step s takes step s next, so lines and events of steps ≥ s
come from the interrupted run and are dropped: the file reads as if there had been no interruption. A value that is not
finite is `null` in JSON (which has no NaN) and omitted from the events (a gap in the curve). An object store cannot
append, so there the files are uploaded with every checkpoint (`send`).

`Clock` assigns every second to one activity: time of inner activities is subtracted from outer ones, so seconds add up.
`Progress` shows step, loss, rates and time left, with rich on a terminal, else as a plain line every few seconds.
"""

import contextlib
import json
import math
import os
import sys
import time
from collections import deque
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol, TextIO, runtime_checkable

import jax
import numpy as np
import rich.console
import rich.progress

from codi_jax import storage
from codi_jax.config import ConfigError
from codi_jax.progress import duration
from codi_jax.train.events import EventWriter


class MetricWriter:
    """Writes scalars of a stage to `metrics.jsonl` and TensorBoard events in one directory. Only process 0 writes."""

    def __init__(self, directory: str | os.PathLike, resumed_step: int = 0, tensorboard: bool = True):
        """Opens the files.

        Args:
          directory: created if absent.
          resumed_step: index of the next step; lines and events of this step and later ones are dropped.
          tensorboard: whether to write events.

        Raises:
          ConfigError: `metrics.jsonl` holds a line that this class did not write.
        """
        self.lost_steps = 0  # steps of an interrupted session that have to be taken again
        self._lines: TextIO | None = None
        self._events: EventWriter | None = None
        self._outbox: storage.UploadBuffer | None = None
        if jax.process_index() != 0:
            return
        self._outbox = storage.UploadBuffer(storage.as_path(directory), fetch=("metrics.jsonl",))
        path = self._outbox.folder / "metrics.jsonl"
        self.lost_steps = _rewind(path, resumed_step)
        self._lines = path.open("a", encoding="utf-8", buffering=1)  # line buffered: a kill loses at most one line
        if tensorboard:
            self._events = EventWriter(path.parent, resumed_step)

    def __enter__(self) -> "MetricWriter":
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def write(self, step: int, scalars: Mapping[str, Any]) -> None:
        """Adds the scalars (numbers or arrays of one element) of a step, fetched from their device."""
        if self._lines is None:
            return
        fetched = jax.device_get(dict(scalars))  # all in one transfer; it may reorder the dict
        values = {name: float(fetched[name]) for name in scalars}
        finite = {name: value if math.isfinite(value) else None for name, value in values.items()}
        self._lines.write(json.dumps({"step": int(step), **finite}, allow_nan=False) + "\n")
        if self._events is not None:
            for name, value in finite.items():
                if value is not None:
                    self._events.scalar(name, value, int(step))

    def show(self, step: int, previews: Mapping[str, str | np.ndarray]) -> None:
        """Adds samples of a step to the events.

        Args:
          step: index of the step.
          previews: name -> a text, or uint8 pixels [H, W, 3]; see `Modality.preview`.
        """
        if self._events is None:
            return
        for name, preview in previews.items():
            if isinstance(preview, str):
                self._events.text(f"samples/{name}", preview, int(step))
            else:
                self._events.image(f"samples/{name}", preview, int(step))

    def send(self) -> None:
        """Uploads the files, if the directory is in an object store.

        Called before a checkpoint is saved, so that a run resumed from it finds the lines of all earlier steps.
        """
        if self._outbox is not None:
            if self._events is not None:
                self._events.flush()
            self._outbox.send()

    def close(self) -> None:
        """Flushes and closes the files."""
        files = [file for file in (self._lines, self._events, self._outbox) if file is not None]
        self._lines = self._events = self._outbox = None
        with (
            contextlib.ExitStack() as stack
        ):  # the outbox last, since it uploads the others; each is closed even if another fails
            for file in reversed(files):
                stack.callback(file.close)


def _rewind(path: Path, resumed_step: int) -> int:
    """Drops the lines of steps ≥ `resumed_step` and an incomplete last line; returns the number of dropped steps."""
    if not path.exists():
        return 0
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    kept, end = [], resumed_step
    for number, line in enumerate(lines, 1):
        if number == len(lines) and not line.endswith("\n"):
            break
        try:
            step = json.loads(line)["step"]
        except (ValueError, KeyError, TypeError):
            raise ConfigError(f"{path}, line {number}: not a line of metrics: {line.strip()[:80]!r}") from None
        end = max(end, step + 1)
        if step < resumed_step:
            kept.append(line)
    if len(kept) < len(lines):
        storage.write_text(path, "".join(kept))
    return end - resumed_step


@runtime_checkable
class _Pending(Protocol):
    """A jax array that a device may still be computing; the type `jax.Array` lacks the method."""

    def is_ready(self) -> bool: ...


class Clock:
    """Seconds by activity, such as 'compile', 'data', 'step' and 'checkpoint'."""

    def __init__(self):
        self.seconds: dict[str, float] = {}
        self._stack: list[str] = []
        self._since = 0.0

    def _assign(self) -> None:
        now = time.perf_counter()
        if self._stack:
            self.seconds[self._stack[-1]] = self.seconds.get(self._stack[-1], 0.0) + now - self._since
        self._since = now

    def spent(self) -> dict[str, float]:
        """Seconds by activity until now, those of the present activity included; another thread may call it."""
        seconds, since, now = dict(self.seconds), self._since, time.perf_counter()
        for activity in self._stack[-1:]:
            seconds[activity] = seconds.get(activity, 0.0) + now - since
        return seconds

    @contextlib.contextmanager
    def measure(self, activity: str) -> Iterator[None]:
        """Assigns the time of the block to an activity; an enclosing activity pauses."""
        self._assign()
        self._stack.append(activity)
        try:
            yield
        finally:
            self._assign()
            self._stack.pop()

    @contextlib.contextmanager
    def waiting(self, pending: jax.Array | None) -> Iterator[None]:
        """Assigns the time of the block, in which the next batch is fetched, to 'data' if the device waited for it.

        Args:
          pending: a result of the previous step. If the device is still computing it when the block ends, the device
            has not waited, and the time counts as 'step'. If it finished during the block, all of the time counts as
            'data', so the wait is never understated.
        """
        activity = "data"
        self._assign()
        self._stack.append(activity)
        try:
            yield
        finally:
            if isinstance(pending, _Pending) and not pending.is_ready():
                self._stack[-1] = "step"
            self._assign()
            self._stack.pop()

    def share(self, activity: str) -> float:
        """The fraction of all measured time that an activity took; 0 if there is none."""
        total = sum(self.seconds.values())
        return self.seconds.get(activity, 0.0) / total if total else 0.0


class Progress:
    """Shows the progress of a stage: step, loss, rates, time left, skipped steps, fraction of time waiting for data."""

    def __init__(
        self,
        stage: str,
        total: int,
        batch: int,
        start: int = 0,
        clock: Clock | None = None,
        every: float = 10.0,
        stream: TextIO | None = None,
        overall: Any = None,
    ):
        """Prepares the view.

        Args:
          stage: its name.
          total: number of steps of the stage.
          batch: global batch size.
          start: number of steps taken by earlier sessions.
          clock: its fraction of 'data' is shown.
          every: seconds between plain lines.
          stream: stdout if None; on a terminal rich draws a live view.
          overall: the `Overall` of the recipe; it is updated and shown as well.
        """
        self._overall = overall
        self._stage, self._total, self._batch, self._clock, self._every = stage, total, batch, clock, every
        self._stream = stream or sys.stdout
        self._marks: deque[tuple[float, int]] = deque(maxlen=64)  # (time, steps taken), for the rate
        self._printed = -math.inf
        self._line = ""
        self._bar: rich.progress.Progress | None = None
        if jax.process_index() == 0 and self._stream.isatty():
            self._bar = rich.progress.Progress(
                rich.progress.TextColumn("{task.description}"),
                rich.progress.BarColumn(bar_width=24),
                rich.progress.TextColumn("{task.fields[line]}"),
                console=rich.console.Console(file=self._stream),
                refresh_per_second=4,
            )
            self._task = self._bar.add_task(stage, total=total, completed=start, line="compiling")
            if overall is not None:
                self._all = self._bar.add_task("all", total=1.0, completed=overall.part(), line=overall.line())

    def __enter__(self) -> "Progress":
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(self, *exception: object) -> None:
        """Shows the last state, whether the stage is finished or not."""
        if self._bar is not None:
            self._bar.stop()
        elif self._marks and jax.process_index() == 0 and self._printed < self._marks[-1][0]:
            self._print()

    @property
    def rate(self) -> float:
        """Steps per second over the last updates, without the compilation before the first; 0 until there are two."""
        if len(self._marks) < 2:
            return 0.0
        (t0, s0), (t1, s1) = self._marks[0], self._marks[-1]
        return (s1 - s0) / (t1 - t0) if t1 > t0 else 0.0

    def update(self, taken: int, loss: float | None = None, skipped: int = 0) -> None:
        """Shows that `taken` steps are done.

        Args:
          taken: number of steps, including those of earlier sessions.
          loss: the last known loss; None if there is none.
          skipped: number of steps skipped so far because loss or gradients were not finite.
        """
        now = time.monotonic()
        self._marks.append((now, taken))
        self._line = self._describe(taken, loss, skipped)
        if self._overall is not None:
            self._overall(self._stage, taken, self._total)
        if self._bar is not None:
            self._bar.update(self._task, completed=taken, line=self._line)
            if self._overall is not None:
                self._bar.update(self._all, completed=self._overall.part(), line=self._overall.line())
        elif jax.process_index() == 0 and now - self._printed >= self._every:
            self._print()

    def _describe(self, taken: int, loss: float | None, skipped: int) -> str:
        parts = [f"{taken}/{self._total}", *([] if loss is None else [f"loss {loss:.4g}"])]
        if self.rate:
            parts += [f"{self.rate:.3g} steps/s", f"{self.rate * self._batch:.3g} samples/s"]
            parts.append(f"{duration((self._total - taken) / self.rate)} left")
        if self._clock is not None:
            parts.append(f"data wait {self._clock.share('data'):.0%}")
        if skipped:
            parts.append(f"{skipped} skipped (not finite)")
        return "  ".join(parts)

    def _print(self) -> None:
        self._printed = time.monotonic()
        print(f"{self._stage}  {self._line}", file=self._stream, flush=True)
        if self._overall is not None and self._overall.due():
            self._overall.print(self._stream)
