"""Helpers for config files: parsing their argument, an optimizer, a stage with all fields."""

from types import SimpleNamespace
from typing import Any

from codi_jax.config import ConfigError


def parse_argument(argument: str, **defaults: Any) -> SimpleNamespace:
    """Parses the argument of a config, `name` or `name=value` separated by commas, with typed defaults.

    Raises:
      ConfigError: an unknown name or a value of another type than its default.
    """
    values = dict(defaults)
    for part in (argument or "").split(","):
        name, _, text = part.partition("=")
        if not part:
            continue
        if name not in defaults:
            raise ConfigError(f"config argument {name!r}: unknown; this config knows {', '.join(defaults)}")
        kind = type(defaults[name])
        try:
            values[name] = (text or "1") in ("1", "true", "True") if kind is bool else kind(text)
        except ValueError as error:
            raise ConfigError(f"config argument {name}={text}: expected {kind.__name__}") from error
    return SimpleNamespace(**values)


def adamw(learning_rate: float, warmup: int = 0, weight_decay: float = 0.01, **options: Any) -> dict:
    """AdamW with warm-up and cosine decay."""
    return {"learning_rate": learning_rate, "warmup": warmup, "weight_decay": weight_decay, "b2": 0.99, **options}


def stage(objective: str, modalities: tuple[str, ...], source: str | tuple[str, ...], **options: Any) -> dict:
    """A stage with all its fields, so that each can be overridden on the command line."""
    return {
        "objective": objective, "modalities": modalities, "source": source, "depends_on": (), "trainable": (),
        "init_from": {}, "steps": 0, "batch_size": 128, "optimizer": adamw(1e-3), "ema": 0.995, "settings": {},
        "num_stats_samples": 2048, "log_every": 10, "checkpoint_every": 200, "scheduling_weight": 1.0, **options,
    }  # fmt: skip
