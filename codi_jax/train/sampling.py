"""Samples generated from the EMA weights while a stage trains.

    workdir/stages/NAME/samples/00000500/    the prompts as `prompt_0.txt`, …; the outputs as `image_0.png`, …

Prompts and noise are the same every time, so that samples of two steps differ by the weights alone. All modalities that
the stage trains to generate are generated jointly. Codecs and prompt encoders that the stage does not hold are read for
each generation and not kept.
"""

import itertools
import tempfile
from pathlib import Path
from typing import Any

import jax

from codi_jax import storage
from codi_jax.config import ConfigError
from codi_jax.data.source import make_source, read_batch
from codi_jax.nn import lora
from codi_jax.objectives.base import Objective
from codi_jax.optim import TrainState, merge
from codi_jax.parallel import distributed
from codi_jax.rng import fold
from codi_jax.sampling.files import save
from codi_jax.sampling.generator import Generator
from codi_jax.train.recipe import Run
from codi_jax.train.variables import ShardingFn, assemble


class TrainingSamples:
    """Generates the samples of one stage; its programs are compiled at the first call.

    Args:
      run, name: the stage, with its config field `samples` set.
      objective: of the stage.
      key: of the stage.
      sharding_fn: of the components that are read for generation, see `train.variables.assemble`.

    Raises:
      ConfigError: the stage trains nothing that generates, the source does not have the prompt's modality, or no
        ancestor has trained a component that generation reads.
    """

    def __init__(self, run: Run, name: str, objective: Objective, key: jax.Array, sharding_fn: ShardingFn):
        config, where = run.stage(name).samples, f"config.stages.{name}.samples"
        assert config is not None
        if not objective.outputs:
            raise ConfigError(f"{where}: {run.stage(name).objective} trains nothing that generates")
        source = make_source(run.config.sources[config.source], f"config.sources.{config.source}")
        values = read_batch(source, range(min(config.n, len(source))))
        if config.prompt not in values:
            raise ConfigError(f"{where}.prompt: {config.source} has no {config.prompt}")
        self._run, self._name, self._outputs, self._sharding_fn = run, name, objective.outputs, sharding_fn
        self._prompts = run.codi[config.prompt].raw_from_batch(values)
        self._prompt, self._key = config.prompt, fold(key, "samples")
        self._generator = Generator(run.codi, run.config.generate)
        encoders, sampled, decoders = self._generator.components(objective.outputs, (config.prompt,))
        available = {*objective.components, *run.component_sources(run.ancestors(name))}
        needed = itertools.chain(*encoders.values(), sampled, *decoders.values())
        if missing := sorted(set(needed) - available):
            raise ConfigError(f"{where}: needs {', '.join(missing)}, which no stage that it depends on has trained")
        offload = run.stage(name).offload
        self._averaged = jax.jit(lambda state: state.fetched(offload).averaged())

    def __call__(self, done: int, state: TrainState, frozen: dict, constants: dict) -> dict[str, list[Any]]:
        """Generates after `done` steps and writes the files; every process of a run must call it.

        Returns:
          {output: raw values, as `Modality.write` takes them}.
        """
        params = lora.apply(merge(self._averaged(state), frozen))
        ancestors = self._run.ancestors(self._name)

        def read(components: tuple[str, ...]) -> dict[str, Any]:
            missing = tuple(c for c in components if c not in params)
            loaded = assemble(self._run, ancestors, missing, sharding_fn=self._sharding_fn)
            kept = {c: value for c, value in constants.items() if c not in missing}
            return {"params": {**params, **loaded["params"]}, "constants": {**loaded["constants"], **kept}}

        n, prompts = len(self._prompts), {self._prompt: self._prompts}
        values = self._generator.generate(read, self._outputs, prompts, n, self._key)
        if distributed.is_primary():
            with tempfile.TemporaryDirectory(prefix="codi-jax-") as folder:
                modality = self._run.codi[self._prompt]
                for i, value in enumerate(self._prompts):
                    modality.write(value, Path(folder) / f"prompt_{i}{modality.suffix}")
                save(self._run.codi, values, Path(folder))
                storage.copy(Path(folder), self._run.directory(self._name) / "samples" / f"{done:08d}")
        return values
