"""The loop: one for every stage.

    restore → [ next batch → step → log → checkpoint ] … → average → constants → write what was made

A checkpoint is taken before the next batch is drawn, so that its step number is also its place in the data. The loop
stays one step ahead of the device, no more: it blocks on the metrics of the step before.

Every process of a run takes the same way through it. What could differ between them they agree on: which stages are
finished and from which step to go on (process 0 says), and after which step to stop (`train.stop`).
"""

from itertools import islice
from typing import Any

import jax
import numpy as np

from codi_jax.checkpoint import Checkpointer, save_params
from codi_jax.config import ConfigError
from codi_jax.data.pipeline import Batches, in_order
from codi_jax.data.source import Source
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
from codi_jax.train.program import stage_program, task_of
from codi_jax.train.recipe import Run
from codi_jax.train.sampling import Samples
from codi_jax.train.stop import Preempted, Stop
from codi_jax.train.validation import Validation
from codi_jax.train.variables import assemble, inherit, made_in_place, place_on


def source_of(run: Run, wanted: str | tuple[str, ...]) -> Source:
    """A source of the config, or the arrays of `encode` stages (checked against their weights)."""
    if not isinstance(wanted, str):
        return Arrays(latents.mixed([latents.load(run, stage) for stage in wanted]))
    if wanted in run.config.sources:
        return make_source(run.config.sources[wanted], f"sources.{wanted}")
    return latents.source(run, wanted)


class Stage:
    """One training stage: its task, its state in shardings, its compiled step."""

    def __init__(self, run: Run, name: str):
        self.run, self.name, self.config = run, name, run.stage(name)
        self.directory = run.directory(name)
        self.mesh = make_mesh(run.config.mesh)
        self.key = fold(jax.random.key(run.config.seed), name)
        self.task = task_of(run, name)
        self.source = source_of(run, self.config.source)
        self.validation: Validation | None = None
        if self.config.validation is not None:
            held_out = source_of(run, self.config.validation.source)
            self.validation = Validation(self.config, self.task, held_out, self.mesh, self.key)
        self.samples: Samples | None = None
        if self.config.samples is not None:
            self.samples = Samples(run, name, self.task, self.key, place_on(run, self.mesh))

    def prepare(self) -> None:
        """Parameters of the stages before, fresh ones for what none has made; the state, the step."""
        config, task = self.config, self.task
        providers = self.run.providers(self.run.ancestors(self.name))
        given = tuple(c for c in task.components if c in providers)
        fresh = tuple(c for c in task.components if c not in providers)
        untrained = [c for c in fresh if c not in {p.removeprefix("!").split("/")[0] for p in config.train}]
        if untrained:
            raise ConfigError(
                f"config.stages.{self.name}: needs {', '.join(untrained)}, which neither it nor a stage it needs trains"
            )
        ancestors, place = self.run.ancestors(self.name), place_on(self.run, self.mesh)
        variables = assemble(self.run, ancestors, given, place=place)
        params = {
            **variables["params"],
            **made_in_place(lambda key: task.init(key, fresh), fold(self.key, "init"), place),
        }
        for component, like in config.start.items():
            if component in fresh:
                given_to = assemble(self.run, ancestors, (like,), place=place)["params"][like]
                params[component] = inherit(params[component], given_to, f"config.stages.{self.name}.start")
        program = stage_program(self.run, self.name, task, params, self.mesh)
        self.table, self.summary, self.step = program.table, program.summary, program.step
        params = jax.device_put(params, program.shardings)
        self.constants = jax.device_put(variables["constants"], replicated(self.mesh))
        trained, self.frozen = partition(params, program.trainable)
        if config.precision:
            self.frozen = cast_in_place(self.frozen, program.stored_as)
        # Fresh buffers for every leaf: the state is donated, the parameters given to it are not.
        once = compiled_for_one_call(sum(x.size for x in jax.tree.leaves(trained)))
        self.state = jax.jit(program.create, out_shardings=program.layout, compiler_options=once)(trained)

    def trees(self) -> TrainState:
        """The state as checkpoints hold it: one that is packed, as trees on the host."""
        packed = isinstance(self.state.params, Packed)
        return unpacked(distributed.fetch(self.state)) if packed else self.state

    def restore(self, checkpoints: Checkpointer, step: int) -> None:
        """Takes the state of a step from its checkpoint, into the layout that the state has here."""
        trees, _ = checkpoints.restore(self.trees(), step)
        place = lambda x, like: jax.make_array_from_callback(x.shape, like.sharding, x.__getitem__)  # noqa: E731
        packed = isinstance(self.state.params, Packed)
        self.state = jax.tree.map(place, packed_like(self.state, trees), self.state) if packed else trees

    def batches(self, start: int) -> Batches:
        seed = int(jax.random.bits(fold(self.key, "data")))
        return Batches(
            self.source,
            self.config.batch_size,
            seed,
            start_step=start,
            transform=self.task.transform,
            rows=batch_rows(self.mesh, self.config.batch_size),
            threads=1,
        )

    def train(
        self, ledger: Ledger, quiet: bool = False, profile: tuple[int, int] | None = None, overall: Any = None
    ) -> None:
        """Runs the stage from its last checkpoint to its end and writes what it made.

        Args:
          ledger: books the seconds.
          quiet: leaves out the tables of parameters.
          profile: (start, steps) of this session to be recorded, see `train.profile`.
          overall: is told of the progress, see `train.overall`.
        """
        config, clock = self.config, ledger.clock
        recorded = Profile(self.directory / "profile", profile if distributed.first() else None)
        with (
            jax.set_mesh(self.mesh),
            Stop().listening() as stop,
            Checkpointer(str(self.directory / "checkpoints"), config.keep_last, config.keep_every) as checkpoints,
        ):
            with clock.measure("start"):
                self.prepare()
                start = distributed.agreed(checkpoints.latest() or 0)
                if start:
                    self.restore(checkpoints, start)
            if not quiet and distributed.first():
                print(self.summary, flush=True)
                if self.mesh.size > 1:
                    print(self.table, flush=True)
            batches, pending = self.batches(start), None
            programs: dict[Any, float] = {}  # a kind of batch -> flops of the step that takes it
            worked: list[float] = []  # flops of each step since the last line
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
                    with clock.measure("compile" if new else "step"), recorded.step(i):
                        arguments = (self.state, self.frozen, self.constants, batch, self.key)
                        if new:  # traced here, and not again by the call
                            programs[kind] = count(self.step.trace(*arguments).jaxpr).total
                        self.state, metrics = self.step(*arguments)
                        jax.block_until_ready(metrics["loss"] if new else pending)
                    worked.append(programs[kind])
                    pending = metrics["loss"]
                    recorded.after(pending)
                    done = i + 1
                    if done % config.log_every == 0 or done == config.steps:
                        scalars = {k: float(v) for k, v in jax.device_get(metrics).items()}
                        progress.update(done, scalars["loss"], int(scalars["skipped"]))
                        scalars |= {
                            "steps_per_second": progress.rate,
                            "data_wait": clock.share("data"),
                            **batches.epochs(),
                        }
                        writer.write(i, scalars | self._speed(progress.rate * sum(worked) / len(worked)))
                        worked.clear()
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
            recorded.close()
            with clock.measure("finish"):
                self._finish()
            if stop.here():  # during the last step or since
                raise Preempted(f"stopped after {self.name}; run it again for the stages that follow")

    def _speed(self, flops_per_second: float) -> dict[str, float]:
        """Operations a second and device, and the part of the peak that this is, if the chip is known."""
        devices = list(self.mesh.devices.flat)
        part = utilisation(flops_per_second, devices)
        speed = {"flops_per_second": flops_per_second / len(devices)}
        return speed if part is None else {**speed, "utilisation": part}

    def _finish(self) -> None:
        config = self.config
        state = self.state
        if isinstance(state.params, Packed):  # taken apart on the host: on a device each leaf would be a program
            state = state.replace(ema=distributed.fetch(state.ema))
        averaged = state.averaged()
        variables = {"params": merge(averaged, self.frozen), "constants": dict(self.constants)}
        constants: dict[str, Any] = {}
        components = sorted(averaged)
        if self.task.constants is not None and config.statistics:
            size = min(config.batch_size, config.statistics)
            samples = islice(in_order(self.source, size, self.task.transform), max(config.statistics // size, 1))
            made = self.task.constants(variables, samples)
            constants = {c: distributed.fetch(v) for c, v in made.items() if c in components}
        out = {"params": {c: variables["params"][c] for c in components}}
        if constants:
            out["constants"] = constants
        meta = {
            "stage": self.name,
            "components": components,
            "steps": config.steps,
            "skipped": int(self.state.skipped),
        }
        # Of what lies on several hosts each writes its part; none has to have the whole.
        spread = lambda x: isinstance(x, jax.Array) and not x.is_fully_addressable  # noqa: E731
        out = jax.tree.map(lambda x: x if spread(x) else np.asarray(x), out)
        save_params(str(self.directory / "params"), out, meta)


def train(
    run: Run,
    stages: tuple[str, ...] | None = None,
    quiet: bool = False,
    profile: tuple[int, int] | None = None,
    overall: Any = None,
) -> None:
    """Runs the named stages (all if None) in the recipe's order; what is finished is left alone.

    `quiet` and `profile` are those of `Stage.train`; `overall` is told of the progress, an `Overall` of these stages if
    it is not given and there are several.

    Raises:
      ConfigError: a stage that a named one needs is not finished.
      Preempted: SIGTERM came; everything is saved.
    """
    wanted = run.order if stages is None else stages
    for name in wanted:
        run.stage(name)
    if overall is None and len(wanted) > 1 and distributed.first():
        overall = Overall(run, wanted)
    for name in (n for n in run.order if n in wanted):
        if distributed.agreed(run.finished(name)):
            if distributed.first():
                print(f"{name}  finished", flush=True)
            continue
        for need in run.stage(name).needs:
            if not run.finished(need):
                raise ConfigError(f"stage {name!r} needs {need!r}, which is not finished in {run.workdir}")
        ledger = Ledger(run.directory(name) / "cost.json", Clock())
        if overall is not None:
            overall.begin(name)
        try:
            if run.stage(name).objective == "encode":
                with ledger.clock.measure("encode"):
                    ancestors = run.ancestors(name)
                    needed = tuple(
                        run.codi[m].components[role] for m in run.stage(name).modalities for role in ("codec", "prompt")
                    )
                    source = source_of(run, run.stage(name).source)
                    latents.compute(run, name, assemble(run, ancestors, needed), source, overall)
            else:
                with ledger.clock.measure("start"):
                    stage = Stage(run, name)
                stage.train(ledger, quiet, profile, overall)
                if distributed.first():
                    print(ledger_line(name, ledger.cost(), run.stage(name).steps), flush=True)
        finally:
            ledger.write()
        if overall is not None:
            overall.end(name)
