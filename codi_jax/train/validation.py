"""The loss of the averaged weights on samples that are not trained on.

The same samples with the same noise every time, so that two values differ by the weights alone. Of a diffusion loss it
is told by noise level, too: each sample of a batch has a level of its own, evenly over all of them, without dropped
prompts. A mean over levels hides what is learnt last (in clips, what moves where) under what is learnt first.
"""

from itertools import islice
from typing import Any

import jax
import numpy as np

from codi_jax.data.pipeline import Batches
from codi_jax.data.source import Source
from codi_jax.optim import TrainState, merge
from codi_jax.parallel import batch_rows, place_batch
from codi_jax.rng import fold
from codi_jax.train.recipe import StageConfig
from codi_jax.train.tasks import Task


class Validation:
    """Validates a stage; compiled once."""

    def __init__(self, config: StageConfig, task: Task, source: Source, mesh: jax.sharding.Mesh, key: jax.Array):
        self._source, self._task, self._mesh = source, task, mesh
        self._key = fold(key, "validation")
        self._batches, self._size = config.validation.batches, config.batch_size // task.accumulate

        def losses(state: TrainState, frozen: dict, constants: dict, batch: Any, key: jax.Array) -> dict:
            params = merge(state.fetched(config.on_host).averaged(), frozen)
            return task.validate({"params": params, "constants": constants}, batch, key)

        self._losses = jax.jit(losses)

    def __call__(self, state: TrainState, frozen: dict, constants: dict) -> dict[str, float]:
        """Scalars by name, `validation/…`: means over the batches that have them."""
        batches = Batches(
            self._source,
            self._size,
            int(jax.random.bits(self._key)),
            transform=self._task.transform,
            rows=batch_rows(self._mesh, self._size),
            threads=1,
        )
        parts = [
            self._losses(state, frozen, constants, place_batch(batch, self._mesh), fold(self._key, i))
            for i, batch in enumerate(islice(batches, self._batches))
        ]
        batches.close()
        names = dict.fromkeys(name for part in parts for name in part)
        parts = jax.device_get(parts)
        return {f"validation/{name}": float(np.mean([p[name] for p in parts if name in p])) for name in names}
