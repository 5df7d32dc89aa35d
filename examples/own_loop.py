"""A training loop of one's own around an objective of the package: `python examples/own_loop.py [steps]`.

The model is pure functions of its parameters (`codi.init`, `codi[name].encode`, `.denoise`, …), and an objective has
its loss and its own jitted train step. Everything else here is optax and a `for`.
"""

import sys

import jax
import numpy as np
import optax

import codi_jax
from codi_jax.data.source import make_source, read_batch
from codi_jax.objectives.base import StageSpec, make_objective
from codi_jax.optim import TrainState


def main(steps: int = 200, batch_size: int = 16, learning_rate: float = 4e-3) -> list[float]:
    """Trains the codec of images and prints its loss, which it returns."""
    codi, key = codi_jax.CoDi.from_preset("demo"), jax.random.key(0)
    objective = make_objective("codec", codi, StageSpec(("image",), {"kl_weight": 1e-5}))
    tx = optax.chain(optax.clip_by_global_norm(1.0), optax.adamw(learning_rate))
    state = TrainState.create(codi.init(key, objective.components), tx)
    train_step = objective.train_step(tx, ema_decay=0.99)
    source = make_source({"name": "digit_world", "modalities": ("image",)})
    draws, losses = np.random.default_rng(0), []
    for step in range(steps):
        batch = objective.batch(read_batch(source, draws.integers(len(source), size=batch_size)))
        state, metrics = train_step(state, {}, codi.default_constants(), batch, key)  # {}: nothing is frozen
        losses.append(float(metrics["loss"]))
        if step % 20 == 0 or step == steps - 1:
            print(f"{step:4}  loss {losses[-1]:.4f}")
    return losses  # state.averaged() has the EMA of the parameters: {"vision_codec": …}


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
