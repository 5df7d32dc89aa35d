"""The validation loss: that of the EMA weights on held-out samples.

Samples and noise are the same every time, so that two values differ by the weights alone. A diffusion loss is also
reported by range of timesteps (`objectives.ldm.loss_by_timestep`): the samples of a batch are spread evenly over all
timesteps, and no prompt is dropped. The mean over all timesteps hides what is learnt last, such as motion in videos.
"""

from itertools import islice

import jax
import numpy as np

from codi_jax.data.pipeline import Batches
from codi_jax.data.source import Source
from codi_jax.nn import lora
from codi_jax.objectives.base import Objective
from codi_jax.optim import TrainState, merge
from codi_jax.parallel import batch_rows, place_batch
from codi_jax.rng import fold
from codi_jax.train.recipe import StageConfig
from codi_jax.types import PyTree


class Validation:
    """Computes the validation loss of a stage; its program is compiled once."""

    def __init__(
        self, config: StageConfig, objective: Objective, source: Source, mesh: jax.sharding.Mesh, key: jax.Array
    ):
        self._source, self._objective, self._mesh = source, objective, mesh
        self._key = fold(key, "validation")
        assert config.validation is not None
        self._batches, self._size = config.validation.batches, config.batch_size // objective.accumulate

        def losses(state: TrainState, frozen: dict, constants: dict, batch: PyTree, key: jax.Array) -> dict:
            params = lora.merged(merge(state.fetched(config.offload).averaged(), frozen))
            return objective.validation({"params": params, "constants": constants}, batch, key)

        self._losses = jax.jit(losses)

    def __call__(self, state: TrainState, frozen: dict, constants: dict) -> dict[str, float]:
        """Validation scalars {"validation/…": value}, each a mean over the batches that have it."""
        batches = Batches(
            self._source,
            self._size,
            int(jax.random.bits(self._key)),
            transform=self._objective.batch,
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
