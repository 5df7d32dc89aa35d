"""What the averaged weights make while a stage trains, to look at and listen to.

    workdir/stages/NAME/samples/00000500/    the prompts as `prompt_0.txt`, …; what was generated as `image_0.png`, …

Always the same prompts and the same noise, so that two steps differ by the weights alone. The outputs of a stage are
what its loss trains to be generated, all of them together. Codecs and prompt encoders that the stage itself does not
hold are read when they are called for, and not kept.
"""

import itertools
import tempfile
from pathlib import Path
from typing import Any

import jax

from codi_jax import storage
from codi_jax.config import ConfigError, from_dict
from codi_jax.data.source import read_batch
from codi_jax.data.sources import make_source
from codi_jax.generate import GenerateConfig, Generator, save
from codi_jax.optim import TrainState, merge
from codi_jax.parallel import distributed
from codi_jax.rng import fold
from codi_jax.train.recipe import Run
from codi_jax.train.tasks import Task
from codi_jax.train.variables import Place, assemble


class Samples:
    """Samples of one stage; its programs are compiled at the first call.

    Args:
      run, name: the stage, which has a `samples`.
      task: what it trains.
      key: of the stage.
      place: of what is read beside the state, see `train.variables.assemble`.

    Raises:
      ConfigError: it trains nothing that generates, the source cannot prompt, or no stage has made what is needed.
    """

    def __init__(self, run: Run, name: str, task: Task, key: jax.Array, place: Place):
        config, where = run.stage(name).samples, f"config.stages.{name}.samples"
        if not task.outputs:
            raise ConfigError(f"{where}: {run.stage(name).objective} trains nothing that generates")
        source = make_source(run.config.sources[config.source], f"config.sources.{config.source}")
        values = read_batch(source, range(min(config.n, len(source))))
        if config.prompt not in values:
            raise ConfigError(f"{where}.prompt: {config.source} has no {config.prompt}")
        self._run, self._name, self._outputs, self._place = run, name, task.outputs, place
        self._prompts = run.codi[config.prompt].values(values)
        self._prompt, self._key = config.prompt, fold(key, "samples")
        self._generator = Generator(run.codi, from_dict(GenerateConfig, run.config.generate, "generate"))
        encoders, sampled, decoders = self._generator.components(task.outputs, (config.prompt,))
        have = {*task.components, *run.providers(run.ancestors(name))}
        wanted = itertools.chain(*encoders.values(), sampled, *decoders.values())
        if missing := sorted(set(wanted) - have):
            raise ConfigError(f"{where}: needs {', '.join(missing)}, which no stage before has made")
        on_host = run.stage(name).on_host
        self._averaged = jax.jit(lambda state: state.fetched(on_host).averaged())

    def __call__(self, done: int, state: TrainState, frozen: dict, constants: dict) -> dict[str, list[Any]]:
        """Generates after `done` steps and writes the files; every process of a run has to call it.

        Returns:
          Natural values by output.
        """
        have = merge(self._averaged(state), frozen)
        ancestors = self._run.ancestors(self._name)

        def read(components: tuple[str, ...]) -> dict[str, Any]:
            missing = tuple(c for c in components if c not in have)
            more = assemble(self._run, ancestors, missing, place=self._place)
            own = {c: value for c, value in constants.items() if c not in missing}
            return {"params": {**have, **more["params"]}, "constants": {**more["constants"], **own}}

        n, prompts = len(self._prompts), {self._prompt: self._prompts}
        values = self._generator.generate(read, self._outputs, prompts, n, self._key)
        if distributed.first():
            with tempfile.TemporaryDirectory(prefix="codi-jax-") as folder:
                modality = self._run.codi[self._prompt]
                for i, value in enumerate(self._prompts):
                    modality.write(value, Path(folder) / f"prompt_{i}{modality.suffix}")
                save(self._run.codi, values, Path(folder))
                storage.copy(Path(folder), self._run.directory(self._name) / "samples" / f"{done:08d}")
        return values
