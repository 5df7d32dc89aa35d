"""The train state and its update.

A step whose loss or gradient norm is not finite changes neither parameters nor optimizer state nor EMA: it is skipped
and counted, and the step number advances. So the number of *applied* updates is `step − skipped`; the learning-rate
schedule (which counts inside the optimizer state) and the warm-up of the EMA decay use that number.

Parameters, optimizer state and EMA are trees or `Packed` (`optim.packed`); the code below works with both.
"""

import dataclasses
from collections.abc import Sequence

import flax.struct
import jax
import jax.numpy as jnp
import optax

from codi_jax.optim import ema
from codi_jax.optim.packed import VectorLayout, unpacked
from codi_jax.types import Array, Params, PyTree


@flax.struct.dataclass
class TrainState:
    """Everything that training changes.

    Attributes:
      step: int32 scalar, number of steps taken, including skipped ones.
      params: the trained parameters; frozen ones are not part of the state.
      opt_state: of the optimizer, for `params`.
      ema: float32 exponential moving average of `params`, or None.
      skipped: int32 scalar, number of steps whose loss or gradients were not finite.
    """

    step: Array
    params: PyTree
    opt_state: optax.OptState
    ema: PyTree
    skipped: Array

    @classmethod
    def create(
        cls, params: Params, tx: optax.GradientTransformation, averaged: bool = True, layout: VectorLayout | None = None
    ) -> "TrainState":
        """The state before the first step; jit this with out_shardings to create it sharded.

        With `layout` the state is packed; `tx` then has to be made for the same layout.
        """
        trained: PyTree = params if layout is None else layout.pack(params)
        return cls(
            step=jnp.zeros((), jnp.int32),
            params=trained,
            opt_state=tx.init(trained),
            ema=ema.start(trained) if averaged else None,
            skipped=jnp.zeros((), jnp.int32),
        )

    def averaged(self) -> Params:
        """The EMA as an unpacked tree, in the dtypes of the parameters."""
        return unpacked(jax.tree.map(lambda e, p: e.astype(p.dtype), self.ema, self.params))

    def fetched(self, offload: Sequence[str]) -> "TrainState":
        """The state with these fields moved from host memory to the device; for use inside a jitted function."""
        moved = {name: jax.device_put(getattr(self, name), jax.memory.Space.Device) for name in offload}
        return dataclasses.replace(self, **moved)


def global_norm(tree: PyTree) -> Array:
    """√Σx² over all leaves, summed in float32."""
    return jnp.sqrt(sum(jnp.sum(jnp.square(leaf.astype(jnp.float32))) for leaf in jax.tree.leaves(tree)))


@jax.named_scope("optimizer")
def apply_gradients(
    state: TrainState,
    grads: Params,
    tx: optax.GradientTransformation,
    loss: Array,
    ema_decay: float = 0.9999,
) -> tuple[TrainState, dict[str, Array]]:
    """One step; pure, to be called inside a jitted train step that donates `state`.

    Args:
      state: the state.
      grads: gradients of the loss with respect to `state.params`, packed as these are.
      tx: the optimizer that created `state`.
      loss: scalar; only checked for being finite.
      ema_decay: the EMA decay after its warm-up, unused if `state.ema` is None.

    Returns:
      The next state, and float32 scalars: grad_norm (before clipping), update_norm (0 for a skipped step), param_norm
      (after the update), skipped (total so far).
    """
    grad_norm = global_norm(grads)
    finite = jnp.isfinite(loss) & jnp.isfinite(grad_norm)
    updates, opt_state = tx.update(grads, state.opt_state, state.params)
    params = optax.apply_updates(state.params, updates)
    skipped = state.skipped + jnp.where(finite, 0, 1)
    step = state.step + 1
    average = state.ema
    if average is not None:
        average = ema.update(average, params, ema.warm_decay(ema_decay, step - skipped))

    # A select and not a lax.cond: it fuses with the elementwise update, where a cond would copy both branches.
    def keep(new: PyTree, old: PyTree) -> PyTree:
        return jax.tree.map(lambda n, o: jnp.where(finite, n, o), new, old)

    next_state = TrainState(
        step=step,
        params=keep(params, state.params),
        opt_state=keep(opt_state, state.opt_state),
        ema=keep(average, state.ema),
        skipped=skipped,
    )
    metrics = {
        "grad_norm": grad_norm,
        "update_norm": jnp.where(finite, global_norm(updates), 0.0),
        "param_norm": global_norm(next_state.params),
        "skipped": skipped.astype(jnp.float32),
    }
    return next_state, metrics
