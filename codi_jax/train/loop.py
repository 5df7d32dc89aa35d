"""The training loop, one for all stages.

    restore → [ next batch → step → log → checkpoint ] … → average → constants → save parameters

A checkpoint is saved before the next batch is drawn, so its step number is also the position in the data. The host runs
one step ahead of the device: after dispatching a step it blocks on the metrics of the previous one.

All processes of a run execute the same control flow. Process 0 decides which stages are finished and at which step to
resume, and broadcasts this; `train.stop` makes all processes stop after the same step.
"""

from itertools import islice
from typing import Any

import jax
import numpy as np

from codi_jax.checkpoint import Checkpointer, save_params
from codi_jax.config import ConfigError
from codi_jax.data.access import Source
from codi_jax.data.pipeline import Batches, in_order
from codi_jax.data.sources import Arrays, make_source
from codi_jax.optim import TrainState, merge, partition
from codi_jax.optim.packed import Packed, packed_like, unpacked
from codi_jax.optim.precision import cast_in_place
from codi_jax.parallel import batch_rows, distributed, make_mesh, place_batch, replicated
from codi_jax.parallel.chips import utilisation
from codi_jax.parallel.flops import count
from codi_jax.parallel.host import compiled_for_one_call
from codi_jax.rng import fold
from codi_jax.train import latents
from codi_jax.train.ledger import Ledger
from codi_jax.train.ledger import line as ledger_line
from codi_jax.train.metrics import Clock, MetricWriter, Progress
from codi_jax.train.overall import Overall
from codi_jax.train.profile import Profile
from codi_jax.train.program import objective_of, stage_program
from codi_jax.train.recipe import Run
from codi_jax.train.sampling import TrainingSamples
from codi_jax.train.stop import Preempted, Stop
from codi_jax.train.validation import Validation
from codi_jax.train.variables import assemble, copy_matching, init_sharded, make_sharding_fn


def source_of(run: Run, names: str | tuple[str, ...]) -> Source:
    """The source that a stage names: one of the config, or the arrays of one or several `encode` stages.

    Raises:
      ConfigError: the arrays were encoded with other weights or from other data.
    """
    if not isinstance(names, str):
        return Arrays(latents.concat_with_presence([latents.load(run, stage) for stage in names]))
    if names in run.config.sources:
        return make_source(run.config.sources[names], f"sources.{names}")
    return latents.source(run, names)


class Stage:
    """One training stage: its objective, its sharded train state, its compiled step."""

    def __init__(self, run: Run, name: str):
        self.run, self.name, self.config = run, name, run.stage(name)
        self.directory = run.directory(name)
        self.mesh = make_mesh(run.config.mesh)
        self.key = fold(jax.random.key(run.config.seed), name)
        self.objective = objective_of(run, name)
        self.source = source_of(run, self.config.source)
        self.validation: Validation | None = None
        if self.config.validation is not None:
            held_out = source_of(run, self.config.validation.source)
            self.validation = Validation(self.config, self.objective, held_out, self.mesh, self.key)
        self.samples: TrainingSamples | None = None
        if self.config.samples is not None:
            self.samples = TrainingSamples(run, name, self.objective, self.key, make_sharding_fn(run, self.mesh))

    def prepare(self) -> None:
        """Loads the components of ancestors, initializes the others, and creates the train state and the step.

        Raises:
          ConfigError: no ancestor has trained a component that the objective reads and this stage does not train.
        """
        config, objective = self.config, self.objective
        sources = self.run.component_sources(self.run.ancestors(self.name))
        loaded = tuple(c for c in objective.components if c in sources)
        initialized = tuple(c for c in objective.components if c not in sources)
        untrained = [c for c in initialized if c not in {p.removeprefix("!").split("/")[0] for p in config.trainable}]
        if untrained:
            raise ConfigError(
                f"config.stages.{self.name}: reads {', '.join(untrained)}, which neither it nor a stage that it "
                "depends on trains"
            )
        ancestors, sharding_fn = self.run.ancestors(self.name), make_sharding_fn(self.run, self.mesh)
        variables = assemble(self.run, ancestors, loaded, sharding_fn=sharding_fn)
        params = {
            **variables["params"],
            **init_sharded(lambda key: objective.init(key, initialized), fold(self.key, "init"), sharding_fn),
        }
        for component, other in config.init_from.items():
            if component in initialized:
                other_params = assemble(self.run, ancestors, (other,), sharding_fn=sharding_fn)["params"][other]
                params[component] = copy_matching(
                    params[component], other_params, f"config.stages.{self.name}.init_from"
                )
        program = stage_program(self.run, self.name, objective, params, self.mesh)
        self.table, self.summary, self.step = program.table, program.summary, program.step
        params = jax.device_put(params, program.shardings)
        self.constants = jax.device_put(variables["constants"], replicated(self.mesh))
        trained, self.frozen = partition(params, program.trainable)
        if config.precision:
            self.frozen = cast_in_place(self.frozen, program.cast_frozen)
        # Every leaf of the state gets a new buffer: the state is donated to the step, `params` is not.
        once = compiled_for_one_call(sum(x.size for x in jax.tree.leaves(trained)))
        self.state = jax.jit(program.create, out_shardings=program.layout, compiler_options=once)(trained)

    def trees(self) -> TrainState:
        """The train state in the form that checkpoints hold; a packed state is unpacked on the host."""
        packed = isinstance(self.state.params, Packed)
        return unpacked(distributed.fetch(self.state)) if packed else self.state

    def restore(self, checkpoints: Checkpointer, step: int) -> None:
        """Restores the state of a step into the layout and the shardings that it has in this run."""
        trees, _ = checkpoints.restore(self.trees(), step)
        place = lambda x, like: jax.make_array_from_callback(x.shape, like.sharding, x.__getitem__)  # noqa: E731
        packed = isinstance(self.state.params, Packed)
        self.state = jax.tree.map(place, packed_like(self.state, trees), self.state) if packed else trees

    def batches(self, start: int) -> Batches:
        """The batches of this process from step `start` on."""
        seed = int(jax.random.bits(fold(self.key, "data")))
        return Batches(
            self.source,
            self.config.batch_size,
            seed,
            start_step=start,
            transform=self.objective.batch,
            rows=batch_rows(self.mesh, self.config.batch_size),
            threads=1,
        )

    def train(
        self, ledger: Ledger, quiet: bool = False, profile: tuple[int, int] | None = None, overall: Any = None
    ) -> None:
        """Trains from the last checkpoint to the end of the stage and saves its parameters and constants.

        Args:
          ledger: records seconds by activity.
          quiet: whether to omit the tables of parameters.
          profile: (start, steps) to trace in this session, see `train.profile`.
          overall: the progress of the whole recipe, see `train.overall`; updated after every logged step.

        Raises:
          Preempted: SIGTERM came; a checkpoint has been saved, or the stage is finished.
        """
        config, clock = self.config, ledger.clock
        profiler = Profile(self.directory / "profile", profile if distributed.is_primary() else None)
        with (
            jax.set_mesh(self.mesh),
            Stop().listening() as stop,
            Checkpointer(str(self.directory / "checkpoints"), config.keep_last, config.keep_every) as checkpoints,
        ):
            with clock.measure("start"):
                self.prepare()
                start = distributed.broadcast_from_primary(checkpoints.latest() or 0)
                if start:
                    self.restore(checkpoints, start)
            if not quiet and distributed.is_primary():
                print(self.summary, flush=True)
                if self.mesh.size > 1:
                    print(self.table, flush=True)
            batches, pending = self.batches(start), None
            programs: dict[Any, float] = {}  # tree structure of a batch -> flops of the step compiled for it
            step_flops: list[float] = []  # of each step since the last logged one
            with (
                MetricWriter(self.directory, start) as writer,
                Progress(self.name, config.steps, config.batch_size, start, clock, overall=overall) as progress,
            ):
                ledger.lost_steps += writer.lost_steps
                for i in range(start, config.steps):
                    with clock.waiting(pending):
                        batch = place_batch(next(batches), self.mesh)
                    kind = jax.tree.structure(batch)
                    new = kind not in programs
                    with clock.measure("compile" if new else "step"), profiler.step(i):
                        arguments = (self.state, self.frozen, self.constants, batch, self.key)
                        if new:  # the call below reuses this trace
                            programs[kind] = count(self.step.trace(*arguments).jaxpr).total
                        self.state, metrics = self.step(*arguments)
                        jax.block_until_ready(metrics["loss"] if new else pending)
                    step_flops.append(programs[kind])
                    pending = metrics["loss"]
                    profiler.after(pending)
                    done = i + 1
                    if done % config.log_every == 0 or done == config.steps:
                        scalars = {k: float(v) for k, v in jax.device_get(metrics).items()}
                        progress.update(done, scalars["loss"], int(scalars["skipped"]))
                        scalars |= {
                            "steps_per_second": progress.rate,
                            "data_wait": clock.share("data"),
                            **batches.epochs(),
                        }
                        writer.write(i, scalars | self._speed(progress.rate * sum(step_flops) / len(step_flops)))
                        step_flops.clear()
                    if self.validation is not None and (done % config.validation.every == 0 or done == config.steps):
                        with clock.measure("validation"):
                            writer.write(i, self.validation(self.state, self.frozen, self.constants))
                    if self.samples is not None and (done % config.samples.every == 0 or done == config.steps):
                        with clock.measure("samples"):
                            writer.show(i, self.samples(done, self.state, self.frozen, self.constants))
                    stopping = stop.here() and done < config.steps
                    if stopping or (done < config.steps and done % config.checkpoint_every == 0):
                        with clock.measure("checkpoint"):
                            writer.send()
                            checkpoints.save(done, self.trees(), batches.get_state())
                            ledger.write()
                    if stopping:
                        checkpoints.wait()
                        raise Preempted(f"stopped in {self.name} at step {done} of {config.steps}; run it again")
            batches.close()
            profiler.close()
            with clock.measure("finish"):
                self._finish()
            if stop.here():  # the signal came during the last step or later
                raise Preempted(f"stopped after {self.name}; run it again for the remaining stages")

    def _speed(self, flops_per_second: float) -> dict[str, float]:
        """FLOP/s per device, and the utilisation (fraction of the peak) if the chip is known."""
        devices = list(self.mesh.devices.flat)
        used = utilisation(flops_per_second, devices)
        speed = {"flops_per_second": flops_per_second / len(devices)}
        return speed if used is None else {**speed, "utilisation": used}

    def _finish(self) -> None:
        """Saves the EMA parameters of the trained components and their constants."""
        config = self.config
        state = self.state
        if isinstance(state.params, Packed):  # unpacked on the host: on a device each leaf would be a program
            state = state.replace(ema=distributed.fetch(state.ema))
        averaged = state.averaged()
        variables = {"params": merge(averaged, self.frozen), "constants": dict(self.constants)}
        constants: dict[str, Any] = {}
        components = sorted(averaged)
        if config.num_stats_samples:
            size = min(config.batch_size, config.num_stats_samples)
            samples = islice(
                in_order(self.source, size, self.objective.batch), max(config.num_stats_samples // size, 1)
            )
            computed = self.objective.statistics(variables, samples)
            constants = {c: distributed.fetch(v) for c, v in computed.items() if c in components}
        out = {"params": {c: variables["params"][c] for c in components}}
        if constants:
            out["constants"] = constants
        meta = {
            "stage": self.name,
            "components": components,
            "steps": config.steps,
            "skipped": int(self.state.skipped),
        }
        # Each host writes its shards of an array that is split over hosts, so no host needs the whole array.
        multihost = lambda x: isinstance(x, jax.Array) and not x.is_fully_addressable  # noqa: E731
        out = jax.tree.map(lambda x: x if multihost(x) else np.asarray(x), out)
        save_params(str(self.directory / "params"), out, meta)


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
      quiet, profile: see `Stage.train`.
      overall: the progress of the whole recipe; if None and there are several stages, it is created here.

    Raises:
      ConfigError: a stage that a named one depends on is not finished.
      Preempted: SIGTERM came; everything is saved.
    """
    requested = run.order if stages is None else stages
    for name in requested:
        run.stage(name)
    if overall is None and len(requested) > 1 and distributed.is_primary():
        overall = Overall(run, requested)
    for name in (n for n in run.order if n in requested):
        if distributed.broadcast_from_primary(run.finished(name)):
            if distributed.is_primary():
                print(f"{name}  finished", flush=True)
            continue
        for need in run.stage(name).depends_on:
            if not run.finished(need):
                raise ConfigError(f"stage {name!r} depends on {need!r}, which is not finished in {run.workdir}")
        ledger = Ledger(run.directory(name) / "cost.json", Clock())
        if overall is not None:
            overall.begin(name)
        try:
            if not run.stage(name).trains:
                with ledger.clock.measure("encode"):
                    ancestors = run.ancestors(name)
                    components = tuple(
                        run.codi[m].components[role] for m in run.stage(name).modalities for role in ("codec", "prompt")
                    )
                    source = source_of(run, run.stage(name).source)
                    latents.compute(run, name, assemble(run, ancestors, components), source, overall)
            else:
                with ledger.clock.measure("start"):
                    stage = Stage(run, name)
                stage.train(ledger, quiet, profile, overall)
                if distributed.is_primary():
                    print(ledger_line(name, ledger.cost(), run.stage(name).steps), flush=True)
        finally:
            ledger.write()
        if overall is not None:
            overall.end(name)
