"""The training loop, one for all stages.

    restore → [ next batch → step → callbacks → checkpoint ] … → checkpoint → average → constants → save parameters

A checkpoint is saved before the next batch is drawn, so its step number is also the position in the data. The host runs
one step ahead of the device: after dispatching a step it blocks on the metrics of the previous one.

All processes of a run execute the same control flow. Process 0 decides which stages are finished and at which step to
resume, and broadcasts this; `train.stop` makes all processes stop after the same step.
"""

from typing import Any

import jax

from codi_jax.checkpoint import Checkpointer
from codi_jax.config import ConfigError
from codi_jax.objectives.batches import MediaBatches
from codi_jax.parallel import distributed, place_batch
from codi_jax.train import latents
from codi_jax.train.callbacks import standard_callbacks
from codi_jax.train.continued import begun_line, finished_line
from codi_jax.train.ledger import Ledger
from codi_jax.train.ledger import line as ledger_line
from codi_jax.train.metrics import Clock, MetricWriter, Progress
from codi_jax.train.overall import Overall
from codi_jax.train.profile import Profile
from codi_jax.train.program import check_objectives, check_sharding_rules
from codi_jax.train.recipe import Run
from codi_jax.train.stage import Stage, source_of
from codi_jax.train.steps import StepRunner
from codi_jax.train.stop import Preempted, Stop
from codi_jax.train.stragglers import Stragglers
from codi_jax.train.variables import assemble


def train_stage(
    stage: Stage, ledger: Ledger, quiet: bool = False, profile: tuple[int, int] | None = None, overall: Any = None
) -> None:
    """Trains a stage from its last checkpoint to its end and saves its parameters and constants.

    Args:
      stage: the stage.
      ledger: records seconds by activity.
      quiet: whether to omit the tables of parameters.
      profile: (start, steps) to trace in this session, see `train.profile`.
      overall: the progress of the whole recipe, see `train.overall`; updated after every logged step.

    Raises:
      Preempted: SIGTERM came; a checkpoint has been saved, or the stage is finished.
    """
    config, clock = stage.config, ledger.clock
    with (
        jax.set_mesh(stage.mesh),
        Stop().listening() as stop,
        Checkpointer(str(stage.directory / "checkpoints"), config.keep_last, config.keep_every) as checkpoints,
    ):
        with clock.measure("start"):
            stage.prepare()
            start = stage.resume(checkpoints)
        if distributed.is_primary() and (line := begun_line(stage.run, stage.name, start, stage.after)):
            print(line, flush=True)
        if not quiet and distributed.is_primary():
            print(stage.tables(), flush=True)
        batches = stage.batches(start)
        profiler = Profile(stage.directory / "profile", profile if distributed.is_primary() else None)
        steps = StepRunner(stage, clock, profiler)
        with (
            MetricWriter(stage.directory, start) as writer,
            Progress(stage.name, config.steps, config.batch_size, start, clock, overall=overall) as progress,
        ):
            ledger.resume(start, start + writer.lost_steps)
            stragglers = Stragglers(config.log_every)
            callbacks = [*standard_callbacks(stage, steps, batches, writer, progress, clock), stragglers]
            for i in range(start, config.steps):
                with clock.waiting(steps.pending), stragglers.own_time():
                    batch = place_batch(next(batches), stage.mesh)
                metrics = steps(i, batch)
                ledger.reached = done = i + 1
                for callback in callbacks:
                    callback(done, metrics)
                stopping = stop.here() and done < config.steps
                if stopping or (done < config.steps and done % config.checkpoint_every == 0):
                    with clock.measure("checkpoint"):
                        writer.send()
                        checkpoints.save(done, stage.trees(), {**batches.get_state(), "after": stage.after})
                        ledger.write()
                if stopping:
                    checkpoints.wait()
                    raise Preempted(f"stopped in {stage.name} at step {done} of {config.steps}; run it again")
            if start < config.steps:  # from which the stage goes on, if it is given more steps
                with clock.measure("checkpoint"):
                    checkpoints.save(config.steps, stage.trees(), {**batches.get_state(), "after": stage.after})
        batches.close()
        profiler.close()
        if distributed.is_primary() and (line := stage.bad_samples()):
            print(line, flush=True)
        with clock.measure("finish"):
            stage.finish()
        if stop.here():  # the signal came during the last step or later
            raise Preempted(f"stopped after {stage.name}; run it again for the remaining stages")


def _encode(run: Run, name: str, overall: Any) -> None:
    """Runs an encode stage."""
    stage = run.stage(name)
    variables = assemble(run, run.ancestors(name), MediaBatches(run.codi, stage.modalities).components)
    latents.compute(run, name, variables, source_of(run, stage.source, name), overall)


def train(
    run: Run,
    stages: tuple[str, ...] | None = None,
    quiet: bool = False,
    profile: tuple[int, int] | None = None,
    overall: Any = None,
) -> None:
    """Runs the named stages (all if None) in the recipe's order and skips finished ones.

    Args:
      run: the run.
      stages: names of stages.
      quiet, profile: see `train_stage`.
      overall: the progress of the whole recipe; if None and there are several stages, it is created here.

    Raises:
      ConfigError: a stage that a named one depends on is not finished, its settings do not fit its objective, or a
        sharding rule matches nothing.
      Preempted: SIGTERM came; everything is saved.
    """
    requested = run.order if stages is None else stages
    for name in requested:
        run.stage(name)
    check_objectives(run, requested)
    check_sharding_rules(run)
    if overall is None and len(requested) > 1 and distributed.is_primary():
        overall = Overall(run, requested)
    for name in (n for n in run.order if n in requested):
        if distributed.broadcast_from_primary(run.complete(name)):
            if distributed.is_primary():
                print(finished_line(run, name), flush=True)
            continue
        for need in run.stage(name).depends_on:
            if not run.finished(need):
                raise ConfigError(f"stage {name!r} depends on {need!r}, which is not finished in {run.workdir}")
        ledger = Ledger(run.directory(name) / "cost.json", Clock())
        if overall is not None:
            overall.begin(name)
        with ledger.updating():
            if not run.stage(name).trains:
                with ledger.clock.measure("encode"):
                    _encode(run, name, overall)
            else:
                with ledger.clock.measure("start"):
                    stage = Stage(run, name)
                train_stage(stage, ledger, quiet, profile, overall)
                if distributed.is_primary():
                    print(ledger_line(name, ledger.cost(), run.stage(name).steps), flush=True)
        if overall is not None:
            overall.end(name)
