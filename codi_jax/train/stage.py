"""One training stage: its objective, its data, its sharded train state, and the directory it saves to."""

from itertools import islice
from typing import Any

import jax
import numpy as np

from codi_jax import storage
from codi_jax.checkpoint import Checkpointer, save_params
from codi_jax.config import ConfigError
from codi_jax.data.pipeline import Batches, in_order
from codi_jax.data.skip_bad_samples import skipping
from codi_jax.data.source import Source, make_source
from codi_jax.nn import lora
from codi_jax.optim import TrainState, merge, partition
from codi_jax.optim.packed import Packed, packed_like, unpacked
from codi_jax.optim.precision import cast_in_place
from codi_jax.parallel import batch_rows, distributed, make_mesh, replicated
from codi_jax.parallel.host import compiled_for_one_call
from codi_jax.rng import fold, seed_key
from codi_jax.train import encoded
from codi_jax.train.continued import earliest, steps_before
from codi_jax.train.program import make_adapters, objective_of, stage_program
from codi_jax.train.recipe import Run
from codi_jax.train.sampling import TrainingSamples
from codi_jax.train.validation import Validation
from codi_jax.train.variables import assemble, copy_matching, init_sharded, make_sharding_fn


def source_of(run: Run, names: str | tuple[str, ...], stage: str) -> Source:
    """The source that a stage names: one of the config, or the samples of `encode` stages.

    Bad samples are logged in the stage's directory, unless the config of the source names a log or the workdir is in an
    object store.

    Raises:
      ConfigError: the arrays were encoded with other weights or from other data.
    """
    if encoded.stages_of(run, names):
        return encoded.source(run, names)
    assert isinstance(names, str), "several names are encode stages"
    source = make_source(run.config.sources[names], f"sources.{names}")
    if run.workdir is not None and not storage.is_remote(run.workdir):
        for name, found in skipping(source, names).items():
            found.log_to(run.directory(stage) / "bad_samples" / name)
    return source


class Stage:
    """One training stage: its objective, its sharded train state, its compiled step."""

    def __init__(self, run: Run, name: str):
        self.run, self.name, self.config = run, name, run.stage(name)
        self.directory = run.directory(name)
        self.mesh = make_mesh(run.config.mesh)
        self.key = fold(seed_key(run.config.seed), name)
        self.objective = objective_of(run, name)
        self.source = source_of(run, self.config.source, name)
        self.skipping = skipping(self.source, str(self.config.source))
        self.after: dict[str, int] = {}  # stage before this one -> its steps when this one was begun
        self.validation: Validation | None = None
        if self.config.validation is not None:
            held_out = source_of(run, self.config.validation.source, name)
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
        self.after = steps_before(self.run, self.name)
        sources = self.run.component_sources(self.run.ancestors(self.name))
        loaded = tuple(c for c in objective.components if c in sources)
        initialized = tuple(c for c in objective.components if c not in sources)
        own = {p.removeprefix("!").split("/")[0] for p in config.trainable}
        untrained = [c for c in initialized if c not in own and c not in config.init_from]
        if untrained:
            raise ConfigError(
                f"config.stages.{self.name}: reads {', '.join(untrained)}, which neither it nor a stage that it "
                "depends on trains; a copy of another component is named by init_from"
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
                where = f"config.stages.{self.name}.init_from.{component}"
                params[component] = copy_matching(params[component], other_params, where, whole=component not in own)
        if config.lora is not None:
            make = make_adapters(self.run, self.name, params)
            params = merge(params, init_sharded(make, fold(self.key, "lora"), sharding_fn))
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

    def tables(self) -> str:
        """The parameters and how they are trained; on several devices, how they are sharded, too."""
        return "\n".join(map(str, [self.summary, self.table] if self.mesh.size > 1 else [self.summary]))

    def is_due(self, done: int, every: int) -> bool:
        """Whether something that happens `every` so many steps, and at the end, happens after `done` steps."""
        return done % every == 0 or done == self.config.steps

    def trees(self) -> TrainState:
        """The train state in the form that checkpoints hold; a packed state is unpacked on the host."""
        packed = isinstance(self.state.params, Packed)
        return unpacked(distributed.fetch(self.state)) if packed else self.state

    def resume(self, checkpoints: Checkpointer) -> int:
        """Restores the last checkpoint into the layout and the shardings that the state has in this run.

        Returns:
          Its step; 0 if there is none.
        """
        step = distributed.broadcast_from_primary(checkpoints.latest() or 0)
        if step:
            self._restore(checkpoints, step)
        return step

    def _restore(self, checkpoints: Checkpointer, step: int) -> None:
        trees, meta = checkpoints.restore(self.trees(), step)
        self.after = earliest(self.after, meta.get("after", {}))
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

    def bad_samples(self) -> str:
        """How many samples were replaced since they cannot be used, why, and where they are listed; empty if none."""
        lines = [
            f"{self.name}: {source.bad} samples of {name} cannot be used and were replaced ({source.counts()}); "
            f"they are listed in {source.log}"
            for name, source in self.skipping.items()
            if source.bad
        ]
        return "\n".join(lines)

    def finish(self) -> None:
        """Saves the EMA parameters of the trained components, or the adapters that are kept apart; and constants."""
        config = self.config
        state = self.state
        if isinstance(state.params, Packed):  # unpacked on the host: on a device each leaf would be a program
            state = state.replace(ema=distributed.fetch(state.ema))
        averaged = state.averaged()
        params = merge(averaged, self.frozen)
        variables = {"params": lora.apply(params), "constants": dict(self.constants)}
        constants: dict[str, Any] = {}
        components = sorted(averaged)
        if config.num_stats_samples:
            size = min(config.batch_size, config.num_stats_samples)
            samples = islice(
                in_order(self.source, size, self.objective.batch), max(config.num_stats_samples // size, 1)
            )
            computed = self.objective.statistics(variables, samples)
            constants = {c: distributed.fetch(v) for c, v in computed.items() if c in components}
        kept_apart = config.lora is not None and not config.lora.merge
        results = {c: variables["params"][c] for c in components}
        out = {"lora": lora.adapters_of(params)} if kept_apart else {"params": results}
        if constants:
            out["constants"] = constants
        meta = {
            "stage": self.name,
            "components": [] if kept_apart else components,
            **({"adapters": components} if kept_apart else {}),
            "steps": config.steps,
            "after": self.after,
            "skipped": int(self.state.skipped),
        }
        # Of several processes each writes its shards of an array that is split over them; none needs the whole array.
        whole = lambda x: not isinstance(x, jax.Array) or x.is_fully_addressable  # noqa: E731
        if distributed.is_multiprocess():
            out = jax.tree.map(lambda x: np.asarray(x) if whole(x) else x, out)
        save_params(str(self.directory / "params"), out, meta)
