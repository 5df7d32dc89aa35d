"""What is done after the steps of a stage: metrics, validation, samples.

A callback is called after every step, in the order of the list, by every process of a run. It sees the state after the
step (`stage.state`) and must not change it. One that prints or writes does so on process 0 alone.
"""

from collections.abc import Callable
from typing import Protocol

import jax

from codi_jax.data.pipeline import Batches
from codi_jax.parallel.chips import utilisation
from codi_jax.train.metrics import Clock, MetricWriter, Progress
from codi_jax.train.stage import Stage
from codi_jax.train.steps import StepRunner
from codi_jax.types import Array


class Callback(Protocol):
    """Called after every step."""

    def __call__(self, done: int, metrics: dict[str, Array]) -> None:
        """Args:
        done: number of steps taken, those before a resume included.
        metrics: of the step, on the device; reading one waits for the step.
        """
        ...


class LogMetrics:
    """Writes the metrics of every `log_every`th step and of the last, and shows them as progress."""

    def __init__(
        self, stage: Stage, steps: StepRunner, batches: Batches, writer: MetricWriter, progress: Progress, clock: Clock
    ):
        self._stage, self._steps, self._batches = stage, steps, batches
        self._writer, self._progress, self._clock = writer, progress, clock
        self._flops: list[float] = []  # of each step since the last logged one

    def __call__(self, done: int, metrics: dict[str, Array]) -> None:
        self._flops.append(self._steps.flops)
        if not self._stage.is_due(done, self._stage.config.log_every):
            return
        scalars = {name: float(value) for name, value in jax.device_get(metrics).items()}
        self._progress.update(done, scalars["loss"], int(scalars["skipped"]))
        rate = self._progress.rate
        scalars |= {"steps_per_second": rate, "data_wait": self._clock.share("data"), **self._batches.epochs()}
        if self._stage.skipping:
            scalars["bad_samples"] = sum(source.bad for source in self._stage.skipping.values())
        self._writer.write(done - 1, scalars | self._speed(rate * sum(self._flops) / len(self._flops)))
        self._flops.clear()

    def _speed(self, flops_per_second: float) -> dict[str, float]:
        """FLOP/s per device, and the utilisation (fraction of the peak) if the chip is known."""
        devices = list(self._stage.mesh.devices.flat)
        used = utilisation(flops_per_second, devices)
        speed = {"flops_per_second": flops_per_second / len(devices)}
        return speed if used is None else {**speed, "utilisation": used}


class Periodic:
    """Calls `act(done)` every `every` steps and after the last one, and books its seconds to an activity."""

    def __init__(self, stage: Stage, clock: Clock, activity: str, every: int, act: Callable[[int], None]):
        self._stage, self._clock = stage, clock
        self._activity, self._every, self._act = activity, every, act

    def __call__(self, done: int, metrics: dict[str, Array]) -> None:
        if self._stage.is_due(done, self._every):
            with self._clock.measure(self._activity):
                self._act(done)


def standard_callbacks(
    stage: Stage, steps: StepRunner, batches: Batches, writer: MetricWriter, progress: Progress, clock: Clock
) -> list[Callback]:
    """The callbacks of a stage: metrics; if its config asks for them, the validation loss and samples of the EMA."""
    callbacks: list[Callback] = [LogMetrics(stage, steps, batches, writer, progress, clock)]
    validation, samples = stage.config.validation, stage.config.samples
    if validation is not None and (validate := stage.validation) is not None:

        def write_validation(done: int) -> None:
            writer.write(done - 1, validate(stage.state, stage.frozen, stage.constants))

        callbacks.append(Periodic(stage, clock, "validation", validation.every, write_validation))
    if samples is not None and (generate := stage.samples) is not None:

        def show_samples(done: int) -> None:
            values = generate(done, stage.state, stage.frozen, stage.constants)
            writer.show(done - 1, {name: stage.run.codi[name].preview(made) for name, made in values.items()})

        callbacks.append(Periodic(stage, clock, "samples", samples.every, show_samples))
    return callbacks
