"""Freezing rules, the optimizer and its schedule, the exponential moving average, the train state."""

from codi_jax.optim.lora import LoRAConfig
from codi_jax.optim.optimizer import OptimizerConfig, learning_rate, make_optimizer
from codi_jax.optim.rules import merge, partition, select, summary
from codi_jax.optim.state import TrainState, apply_gradients

__all__ = [
    "LoRAConfig",
    "OptimizerConfig",
    "TrainState",
    "apply_gradients",
    "learning_rate",
    "make_optimizer",
    "merge",
    "partition",
    "select",
    "summary",
]
