"""Running the compiled step of a stage, one step ahead of the device."""

from typing import Any

import jax

from codi_jax.parallel.flops import count
from codi_jax.train.metrics import Clock
from codi_jax.train.profile import Profile
from codi_jax.train.stage import Stage
from codi_jax.types import Array, PyTree


class StepRunner:
    """Calls the step of a stage and replaces the stage's state.

    A batch of a new tree structure, such as another pair of modalities, compiles a program of its own; the call then
    blocks until the step has ended, and its time is booked as "compile" instead of "step".

    Attributes:
      pending: the loss of the last step, which the device may still be computing; None before the first.
      flops: of the last step.
    """

    def __init__(self, stage: Stage, clock: Clock, profiler: Profile):
        self._stage, self._clock, self._profiler = stage, clock, profiler
        self._flops: dict[Any, float] = {}  # tree structure of a batch -> flops of the step compiled for it
        self.pending: Array | None = None
        self.flops = 0.0

    def __call__(self, index: int, batch: PyTree) -> dict[str, Array]:
        """Takes step `index` (from 0) on a batch; returns its metrics, on the device."""
        stage, kind = self._stage, jax.tree.structure(batch)
        new = kind not in self._flops
        with self._clock.measure("compile" if new else "step"), self._profiler.step(index):
            arguments = (stage.state, stage.frozen, stage.constants, batch, stage.key)
            if new:  # the call below reuses this trace
                self._flops[kind] = count(stage.step.trace(*arguments).jaxpr).total
            stage.state, metrics = stage.step(*arguments)
            jax.block_until_ready(metrics["loss"] if new else self.pending)
        self.pending, self.flops = metrics["loss"], self._flops[kind]
        self._profiler.after(self.pending)
        return metrics
