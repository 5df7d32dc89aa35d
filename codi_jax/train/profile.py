"""Tracing some steps of a stage for xprof (`pip install xprof; xprof STAGE/profile`) or Perfetto."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

import jax

from codi_jax.config import ConfigError


class Profile:
    """Traces some steps of a session into a directory.

    Args:
      directory: for the trace.
      steps: (start, number of steps), counted from the first step of the session, which compiles; None traces nothing.
    """

    def __init__(self, directory: Path, steps: tuple[int, int] | None):
        self._directory, self._steps, self._taken, self._on = directory, steps, 0, False

    @contextlib.contextmanager
    def step(self, index: int) -> Iterator[None]:
        """A context around step `index` of the stage; the index names the step in the trace."""
        if self._steps is not None and self._taken == self._steps[0]:
            jax.profiler.start_trace(str(self._directory))
            self._on = True
        with jax.profiler.StepTraceAnnotation("train", step_num=index):
            yield
        self._taken += 1

    def after(self, result: jax.Array) -> None:
        """Called with a result of the step; ends the trace when the last traced step has finished on the device."""
        if self._on and self._steps is not None and self._taken == sum(self._steps):
            jax.block_until_ready(result)
            self.close()

    def close(self) -> None:
        """Ends the trace if it is still running."""
        if self._on:
            jax.profiler.stop_trace()
            print(f"profile  {self._directory}", flush=True)
        self._on = False


def parse(text: str) -> tuple[int, int]:
    """Parses `start,n`.

    Raises:
      ConfigError: `text` is not of this form, or n is 0.
    """
    start, comma, steps = text.partition(",")
    if not (comma and start.isdecimal() and steps.isdecimal() and int(steps)):
        raise ConfigError(f"--profile: expected START,STEPS as in 10,5, got {text!r}")
    return int(start), int(steps)
