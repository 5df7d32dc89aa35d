"""The optimizer of a stage: clip → rule (AdamW, Adam, Lion) → decoupled decay → learning rate → multiplier by path.

The learning rate after n applied updates (n = 0, 1, …), with w warm-up updates and `steps` in total:

    η_n = η · (n + 1) / w                                                n < w
    η_n = η · (f + (1 − f) · (1 + cos(π · (n − w) / (steps − w))) / 2)   n ≥ w, schedule 'cosine'
    η_n = η                                                              n ≥ w, schedule 'constant'

so the first update has a rate above 0, the w-th has the full rate, and the cosine reaches f · η at n = steps. Weight
decay is decoupled: p ← p − η_n · multiplier · (direction + weight_decay · p), for leaves of two or more dimensions.

The update is the same for a tree of leaves and for a tree packed into vectors (`optim.packed`); all leaves of a vector
have the same weight decay and the same multiplier.
"""

from collections.abc import Callable
from typing import Any, Literal

import jax
import jax.numpy as jnp
import optax
from jax.typing import ArrayLike

from codi_jax.config import ConfigError, config_class
from codi_jax.optim import rules
from codi_jax.optim.packed import VectorLayout
from codi_jax.parallel import paths
from codi_jax.types import Array, PyTree


@config_class()
class OptimizerConfig:
    """The optimizer and its schedule.

    Attributes:
      learning_rate: η, the peak.
      warmup: w, number of updates of linear warm-up.
      final_fraction: f, the final learning rate of the cosine as a fraction of η.
      clip: maximum global norm of the gradients; 0 for no clipping.
      mu_dtype: in which the first moment is stored, as in optax: two bytes less for each trained parameter. The second
        moment is float32 always, since bfloat16 would lose updates by 1 - b2 < 2⁻⁸.
      no_decay: regexes over whole parameter paths of leaves without weight decay; leaves with fewer than two dimensions
        never have it.
      lr_multipliers: ordered pairs (regex over whole parameter paths, multiplier); the first match decides.
    """

    name: Literal["adamw", "adam", "lion"] = "adamw"
    learning_rate: float = 1e-3
    warmup: int = 0
    schedule: Literal["constant", "cosine"] = "cosine"
    final_fraction: float = 0.0
    b1: float = 0.9
    b2: float = 0.999
    eps: float = 1e-8
    weight_decay: float = 0.0
    clip: float = 1.0
    mu_dtype: Literal["float32", "bfloat16"] = "float32"
    no_decay: tuple[str, ...] = ()
    lr_multipliers: tuple[Any, ...] = ()

    def __post_init__(self):
        if self.learning_rate <= 0:
            raise ConfigError(f"optimizer.learning_rate: {self.learning_rate} is not positive")
        for name in ("warmup", "eps", "weight_decay", "clip", "final_fraction"):
            if getattr(self, name) < 0:
                raise ConfigError(f"optimizer.{name}: {getattr(self, name)} is negative")
        for name in ("b1", "b2"):
            if not 0 <= getattr(self, name) < 1:
                raise ConfigError(f"optimizer.{name}: {getattr(self, name)} is not in [0, 1)")
        if self.name == "adam" and self.weight_decay:
            raise ConfigError("optimizer.weight_decay: adam has no decay; use adamw")


def learning_rate(config: OptimizerConfig, steps: int) -> Callable[[ArrayLike], Array]:
    """η_n as a function of n, the number of updates applied so far.

    Raises:
      ConfigError: the warm-up is longer than the stage.
    """
    if config.warmup > steps:
        raise ConfigError(f"optimizer.warmup: {config.warmup} updates of warm-up in a stage of {steps} steps")

    def schedule(applied: ArrayLike) -> Array:
        n = jnp.asarray(applied, jnp.float32)
        warm = jnp.minimum((n + 1) / max(config.warmup, 1), 1.0)
        progress = jnp.clip((n - config.warmup) / max(steps - config.warmup, 1), 0.0, 1.0)
        cosine = config.final_fraction + (1 - config.final_fraction) * (1 + jnp.cos(jnp.pi * progress)) / 2
        return config.learning_rate * warm * (cosine if config.schedule == "cosine" else 1.0)

    return schedule


def multipliers(config: OptimizerConfig, params: PyTree) -> dict[str, float]:
    """The learning-rate multiplier of every trained leaf, by path.

    Raises:
      ConfigError: a multiplier is not a positive number, or a rule matches no leaf.
    """
    factors = rules.assign(paths.flatten(params), config.lr_multipliers, 1.0, "optimizer.lr_multipliers")
    for path, factor in factors.items():
        if isinstance(factor, bool) or not isinstance(factor, (int, float)) or factor <= 0:
            raise ConfigError(f"optimizer.lr_multipliers: {factor!r} for {path} is not a positive number")
    return factors


def decayed(config: OptimizerConfig, params: PyTree) -> dict[str, bool]:
    """Whether weight decay applies to each trained leaf, by path."""
    leaves = paths.flatten(params)
    excluded = rules.assign(leaves, [(p, True) for p in config.no_decay], False, "optimizer.no_decay")
    return {p: config.weight_decay > 0 and len(leaf.shape) >= 2 and not excluded[p] for p, leaf in leaves.items()}


def _scale_by_adam(b1: float, b2: float, eps: float, mu_dtype: str) -> optax.GradientTransformation:
    """`optax.scale_by_adam` with bias correction by multiplication; computes in the dtype of the gradients.

    optax divides by 1 - βⁿ. XLA rewrites these divisions in different ways for leaves and for packed vectors, so the
    results would differ in the last bit.
    """

    def update(
        updates: optax.Updates, state: optax.OptState, params: optax.Params | None = None
    ) -> tuple[optax.Updates, optax.OptState]:
        assert isinstance(state, optax.ScaleByAdamState)
        count = jnp.asarray(optax.safe_increment(state.count))
        mu = jax.tree.map(lambda m, g: b1 * m.astype(g.dtype) + (1 - b1) * g, state.mu, updates)
        nu = jax.tree.map(lambda v, g: b2 * v + (1 - b2) * (g * g), state.nu, updates)
        first, second = 1 / (1 - b1**count), 1 / (1 - b2**count)

        def direction(m: Array, v: Array) -> Array:
            return m * first.astype(m.dtype) / (jnp.sqrt(v * second.astype(v.dtype)) + eps)

        stored = jax.tree.map(lambda m: m.astype(mu_dtype), mu)
        return jax.tree.map(direction, mu, nu), optax.ScaleByAdamState(count, stored, nu)

    return optax.GradientTransformation(optax.scale_by_adam(mu_dtype=mu_dtype).init, update)


def packing(config: OptimizerConfig, params: PyTree) -> VectorLayout:
    """The packing of `params` for this optimizer: leaves of the same dtype, decay and multiplier share vectors."""
    groups = list(zip(decayed(config, params).values(), multipliers(config, params).values(), strict=True))
    return VectorLayout.of(params, lambda i: groups[i])


def make_optimizer(
    config: OptimizerConfig, steps: int, params: PyTree, layout: VectorLayout | None = None
) -> optax.GradientTransformation:
    """The optimizer of a stage of `steps` steps.

    Args:
      config: the optimizer.
      steps: number of steps of the stage.
      params: its trained parameters, a tree of arrays or ShapeDtypeStructs.
      layout: from `packing`, for an optimizer of packed parameters.

    Raises:
      ConfigError: the warm-up is longer than the stage, or a rule matches no trained leaf.
    """
    factors, mask = (paths.replace(params, by_path(config, params)) for by_path in (multipliers, decayed))
    if layout is not None:
        factors, mask = layout.first(factors), layout.first(mask)
    chain = [optax.clip_by_global_norm(config.clip)] if config.clip else []
    if config.name == "lion":
        chain.append(optax.scale_by_lion(config.b1, config.b2, mu_dtype=config.mu_dtype))
    else:
        chain.append(_scale_by_adam(config.b1, config.b2, config.eps, config.mu_dtype))
    if config.weight_decay:
        chain.append(optax.add_decayed_weights(config.weight_decay, mask))
    chain.append(optax.scale_by_learning_rate(learning_rate(config, steps)))
    if any(factor != 1 for factor in jax.tree.leaves(factors)):
        chain.append(optax.stateless(lambda updates, _: jax.tree.map(lambda u, f: u * f, updates, factors)))
    return optax.chain(*chain)
