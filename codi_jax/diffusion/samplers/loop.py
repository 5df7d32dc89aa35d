"""Repeats the step of a sampler on a pytree of latents, with one call of the network for all of them at a time.

In one program by `lax.scan` (accelerators), or in a host loop over the jitted step (CPU, where XLA runs a convolution
inside a scan many times slower).
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np

from codi_jax.config import ConfigError, did_you_mean
from codi_jax.diffusion.samplers.base import SAMPLERS, State, adds_noise
from codi_jax.diffusion.samplers.timesteps import network_calls
from codi_jax.diffusion.schedules import Level, Schedule
from codi_jax.types import Array, PyTree


@dataclasses.dataclass(frozen=True)
class JointStep:
    """One network call for all latents together, and their updates. Hashable, to be a static argument of jit.

    Attributes:
      predict: predict(args, z, t) -> guided predictions, of the structure and shapes of z. z is the pytree of latents,
        t [B], or a pytree like z of those if the latents have timesteps of their own; int32, or float32 if real.
      schedule: the noise schedule.
      sampler: a name of SAMPLERS.
      kinds: prediction kind of each leaf of z, in tree order.
      noise_fn: noise_fn(args, index) -> standard normal noise of the structure of z; None for no noise.
    """

    predict: Callable[[PyTree, PyTree, PyTree], PyTree]
    schedule: Schedule
    sampler: str
    kinds: tuple[str, ...]
    noise_fn: Callable[[PyTree, Array], PyTree] | None = None

    def __call__(
        self,
        states: PyTree,
        args: PyTree,
        eta: Array,
        index: Array,
        t: Array,
        t_next: Array,
        evaluation: Array | int = 0,
    ) -> PyTree:
        """Takes all latents from timestep t to t_next, or through one of several network calls of this step.

        Args:
          states: a pytree of `State`, one at each leaf of z.
          args: passed to predict and noise_fn.
          eta: η of the sampler.
          index: number of the step, from 0.
          t, t_next: scalars, or [K] for K latents in tree order. A latent with t = t_next does not change.
          evaluation: number of the network call within the step, see `Sampler`.

        Returns:
          The new states.
        """
        leaves, tree = jax.tree.flatten(states, is_leaf=lambda x: isinstance(x, State))
        z = tree.unflatten([state.z for state in leaves])
        size, per_latent = leaves[0].z.shape[:1], jnp.ndim(t) == 1
        seen = t if SAMPLERS[self.sampler].evaluations == 1 else jnp.where(evaluation == 0, t, t_next)
        levels = [batch_timesteps(seen[k], size) for k in range(len(leaves))] if per_latent else None
        batched_t = tree.unflatten(levels) if per_latent else batch_timesteps(seen, size)
        predictions = tree.flatten_up_to(self.predict(args, z, batched_t))
        noises = [None] * len(leaves) if self.noise_fn is None else tree.flatten_up_to(self.noise_fn(args, index))
        out = []
        for k, (state, prediction, kind, noise) in enumerate(zip(leaves, predictions, self.kinds, noises, strict=True)):
            now, then = (t[k], t_next[k]) if per_latent else (t, t_next)
            new = self._update(
                evaluation, state, prediction, kind, self.schedule.at(now), self.schedule.at(then), eta, noise
            )
            unchanged = now == then
            out.append(
                jax.tree.map(lambda x, y, same=unchanged: jnp.where(same, x, y), state, new) if per_latent else new
            )
        return tree.unflatten(out)

    def _update(
        self,
        evaluation: Array | int,
        state: State,
        prediction: Array,
        kind: str,
        now: Level,
        then: Level,
        eta: Array,
        noise: Array | None,
    ) -> State:
        """The update of the sampler for an evaluation that may be traced."""
        sampler, prediction = SAMPLERS[self.sampler], prediction.astype(state.z.dtype)

        def branch(number: int) -> Callable[[State, Array, Level, Level, Array, Array | None], State]:
            return lambda state, prediction, now, then, eta, noise: sampler.step(
                state, prediction, kind, now, then, eta, noise, number
            )

        if sampler.evaluations == 1:
            return branch(0)(state, prediction, now, then, eta, noise)
        branches = [branch(number) for number in range(sampler.evaluations)]
        return jax.lax.switch(evaluation, branches, state, prediction, now, then, eta, noise)


def batch_timesteps(t: Array, size: tuple[int, ...]) -> Array:
    """One timestep for a batch: [B], int32, or float32 if t is real."""
    real = jnp.issubdtype(jnp.asarray(t).dtype, jnp.floating)
    return jnp.full(size, t, jnp.float32 if real else jnp.int32)


_jitted_step = functools.partial(jax.jit, static_argnums=0)(lambda step, *operands: step(*operands))


def scan(
    step: JointStep,
    states: PyTree,
    args: PyTree,
    eta: Array,
    index: Array,
    pairs: Array,
    evaluation: Array,
    each: PyTree = None,
) -> PyTree:
    """Takes all latents through R network calls in one loop.

    Args:
      step: of one network call.
      states, args, eta: see `JointStep.__call__`.
      index, pairs, evaluation: of the calls, see `NetworkCalls`.
      each: pytree of arguments [R, ...] that differ between calls. If given, the args of call r are (args, each[r]).

    Returns:
      The new states.
    """

    def body(states, x):
        call, own = x
        return step(states, args if each is None else (args, own), eta, *call), None

    return jax.lax.scan(body, states, ((index, pairs[..., 0], pairs[..., 1], evaluation), each))[0]


_jitted_scan = functools.partial(jax.jit, static_argnums=0)(scan)


def sample(
    predict: Callable[[PyTree, PyTree, PyTree], PyTree],
    z: PyTree,
    schedule: Schedule,
    pairs: np.ndarray,
    *,
    args: PyTree = None,
    kind: PyTree = "eps",
    sampler: str = "ddim",
    eta: float = 0.0,
    noise_fn: Callable[[PyTree, Array], PyTree] | None = None,
    loop: Literal["host", "scan"] = "scan",
) -> PyTree:
    """Runs a sampler.

    `predict` and `noise_fn` are static arguments of jit: a call with the same function objects does not recompile.
    Everything that differs between calls (parameters, context, guidance, random key) belongs in `args`.

    Args:
      predict: predict(args, z, t) -> predictions, see `JointStep`.
      z: pytree of latents [B, ...] at timestep pairs[0, ..., 0]; computed in float32 or wider.
      schedule: the noise schedule.
      pairs: [S, 2], see `timesteps`; or [S, K, 2] for K latents, in tree order, with timesteps of their own.
      args: pytree given to predict and noise_fn.
      kind: prediction kind of all latents, or of each in a pytree like z.
      sampler: a name of SAMPLERS.
      eta: η between 0 and 1, for samplers whose noise depends on it.
      noise_fn: noise_fn(args, index of the step) -> standard normal noise of the structure of z; needed by samplers
        that add noise.
      loop: 'scan', one program; 'host', one compiled step, called once for each of `network_calls`.

    Returns:
      The latents at timestep pairs[-1, ..., 1].

    Raises:
      ConfigError: an unknown sampler, kind or loop, an eta that the sampler does not support, or no noise_fn.
    """
    if sampler not in SAMPLERS:
        known = ", ".join(SAMPLERS)
        raise ConfigError(f"sampling: unknown sampler {sampler!r}; known are {known}{did_you_mean(sampler, SAMPLERS)}")
    if not 0 <= eta <= 1:
        raise ConfigError(f"sampling: eta must be between 0 and 1, got {eta}")
    if eta > 0 and not (SAMPLERS[sampler].noise == "eta" and noise_fn is not None):
        raise ConfigError(f"sampling: eta is {eta}, but {sampler} has no noise here")
    if adds_noise(SAMPLERS[sampler], eta) and noise_fn is None:
        raise ConfigError(f"sampling: {sampler} adds noise and needs a noise_fn")
    kinds = (kind,) * len(jax.tree.leaves(z)) if isinstance(kind, str) else tuple(jax.tree.leaves(kind))
    step = JointStep(predict, schedule, sampler, kinds, noise_fn)
    z = jax.tree.map(lambda x: jnp.asarray(x, jnp.promote_types(x.dtype, jnp.float32)), z)
    states = jax.tree.map(SAMPLERS[sampler].init, z)
    calls = network_calls(np.asarray(pairs), SAMPLERS[sampler].evaluations)
    if loop == "scan":
        states = _jitted_scan(step, states, args, eta, calls.step, calls.pairs, calls.evaluation)
    elif loop == "host":
        for index, evaluation, row in zip(calls.step, calls.evaluation, calls.pairs, strict=True):
            states = _jitted_step(step, states, args, eta, index, row[..., 0], row[..., 1], evaluation)
    else:
        raise ConfigError(f"sampling: unknown loop {loop!r}; known are host, scan")
    return jax.tree.map(lambda _, state: state.z, z, states)
