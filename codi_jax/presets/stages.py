"""Stages of the recipes of presets."""

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any

from codi_jax.optim import OptimizerConfig
from codi_jax.train.recipe import RunConfig, StageConfig

Stages = dict[str, dict[str, StageConfig]]  # `config.stages`: GROUP -> NAME -> stage


def adamw(learning_rate: float, warmup: int = 0, weight_decay: float = 0.01) -> OptimizerConfig:
    """AdamW with warm-up and cosine decay, b2 = 0.99."""
    return OptimizerConfig(learning_rate=learning_rate, warmup=warmup, weight_decay=weight_decay, b2=0.99)


def stage(objective: str, modalities: Iterable[str], source: str | tuple[str, ...], **options: Any) -> StageConfig:
    """A stage with EMA 0.995 and `adamw(1e-3)`, unless `options`, fields of `StageConfig`, say something else."""
    return StageConfig(objective, tuple(modalities), source, **{"optimizer": adamw(1e-3), "ema": 0.995, **options})


def shrink(run: RunConfig, evaluate: Mapping[str, Any]) -> RunConfig:
    """The run with a few steps per stage, 64 samples per source and two sampling steps, for tests.

    Args:
      run: the run.
      evaluate: fields of `config.evaluate` to change.
    """

    def few(stage: StageConfig) -> StageConfig:
        return dataclasses.replace(
            stage, steps=4 if stage.steps else 0, batch_size=8, num_stats_samples=16, checkpoint_every=2, log_every=1,
            optimizer=dataclasses.replace(stage.optimizer, warmup=1),
        )  # fmt: skip

    return dataclasses.replace(
        run,
        stages={group: {name: few(stage) for name, stage in named.items()} for group, named in run.stages.items()},
        sources={name: {**source, "size": 64} for name, source in run.sources.items()},
        generate=dataclasses.replace(run.generate, steps=2),
        evaluate={**run.evaluate, **evaluate},
    )
