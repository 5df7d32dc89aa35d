"""Samplers: from noise to data along a list of timesteps.

In the notation of process: z = α x0 + σ ε, and x̂0, ε̂ are the network's prediction converted to these two kinds. A
step goes from level (α, σ) to the less noisy (α', σ'); λ = log(α/σ) is half the log-SNR and h = λ' - λ > 0.

DDIM (Song et al., "Denoising diffusion implicit models", arXiv 2010.02502, equations 12 and 16):

    z' = α' x̂0 + √(σ'² - s²) ε̂ + s ξ,    ξ ~ N(0, I)                            (1)
    s  = η (σ'/σ) √(1 - α²/α'²) = η σ' √(1 - SNR/SNR')                          (2)

η = 0 is deterministic and of first order, η = 1 is ancestral sampling. The second form of s avoids cancellation.

DPM-Solver++(2M) (Lu et al., "DPM-Solver++: fast solver for guided sampling of diffusion probabilistic models",
arXiv 2211.01095, algorithm 2), of second order with one network call a step:

    z' = (σ'/σ) z - α' (e^{-h} - 1) D                                           (3)
    D  = (1 + 1/2r) x̂0 - (1/2r) x̂0_previous,    r = h_previous / h              (4)

The first step has no history and uses D = x̂0, as does a step to σ' = 0, where h is infinite and (3) reads z' = D. With
D = x̂0, (3) is (1) at η = 0.

A step is a pure function on a pytree of latents, and `sample` repeats it: in one program by `lax.scan` (accelerators),
or in a host loop over the jitted step (CPU, where XLA runs a convolution inside a scan many times slower).
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from codi_jax.config import ConfigError
from codi_jax.diffusion.process import convert
from codi_jax.diffusion.schedules import CLEAN, Level, Schedule
from codi_jax.types import Array, PyTree


class History(NamedTuple):
    """The previous step of DPM-Solver++(2M): x̂0, of the shape of z, and its log-SNR, a scalar."""

    x0: Array
    log_snr: Array


class State(NamedTuple):
    """State of a sampler: the latent [B, ...] and the history of a multistep sampler (None for DDIM)."""

    z: Array
    history: History | None


def _ddim_init(z: Array) -> State:
    return State(z, None)


def ddim(state: State, prediction: Array, kind: str, now: Level, then: Level, eta: Array, noise: Array | None) -> State:
    """One step of (1).

    Args:
      state: the latent at level `now`.
      prediction: the (guided) prediction of the network, shape of z.
      kind: its prediction kind.
      now, then: α, σ and log-SNR of this level and the next; must broadcast against z.
      eta: η, between 0 and 1.
      noise: ξ, shape of z; None for η = 0.
    """
    x0 = convert(prediction, state.z, now.alpha, now.sigma, kind, "x0")
    eps = convert(prediction, state.z, now.alpha, now.sigma, kind, "eps")
    if noise is None:
        return State(then.alpha * x0 + then.sigma * eps, None)
    share = eta**2 * -jnp.expm1(now.log_snr - then.log_snr)  # s² / σ'²
    s = then.sigma * jnp.sqrt(share)
    direction = then.sigma * jnp.sqrt(1 - share)
    return State(then.alpha * x0 + direction * eps + s * noise, None)


def _dpmpp_2m_init(z: Array) -> State:
    # A previous log-SNR of -∞ gives r = ∞ in the first step, so that (4) is D = x̂0.
    return State(z, History(jnp.zeros_like(z), jnp.full((), -jnp.inf, z.dtype)))


def dpmpp_2m(
    state: State, prediction: Array, kind: str, now: Level, then: Level, eta: Array, noise: Array | None
) -> State:
    """One step of (3). Arguments as for `ddim`, but levels are scalars; eta and noise are unused."""
    del eta, noise
    history = state.history
    assert history is not None  # see _dpmpp_2m_init
    x0 = convert(prediction, state.z, now.alpha, now.sigma, kind, "x0")
    h = (then.log_snr - now.log_snr) / 2
    h_previous = (now.log_snr - history.log_snr) / 2
    half_inverse_r = jnp.where(then.sigma > 0, h / (2 * h_previous), 0)
    d = x0 + half_inverse_r * (x0 - history.x0)
    z = then.sigma / now.sigma * state.z - then.alpha * jnp.expm1(-h) * d
    return State(z, History(x0, now.log_snr))


class Sampler(NamedTuple):
    """A sampler: the initial state of a latent, the step, and whether the step can add noise."""

    init: Callable[[Array], State]
    step: Callable[..., State]
    stochastic: bool


SAMPLERS = {
    "ddim": Sampler(_ddim_init, ddim, stochastic=True),
    "dpmpp_2m": Sampler(_dpmpp_2m_init, dpmpp_2m, stochastic=False),
}


def timesteps(schedule: Schedule, steps: int, spacing: Literal["release", "trailing"] = "trailing") -> np.ndarray:
    """The timesteps of a sampler.

    'trailing' starts at the last timestep T - 1, the closest to pure noise, and ends at the clean level, in equal
    strides up to rounding (Lin et al., "Common diffusion noise schedules and sample steps are flawed", arXiv
    2305.08891). 'release' is the spacing of the CoDi release: stride c = T // steps, timesteps 1, 1 + c, … in reverse,
    and a last step to timestep 0, whose noise remains. If c does not divide T there are more steps than requested (31
    for 30); some numbers of steps would need a timestep T, which does not exist.

    Args:
      schedule: the noise schedule, of T timesteps.
      steps: number of steps, 1 … T.
      spacing: 'release' or 'trailing'.

    Returns:
      int32 [S, 2], a row (t, t_next) for each step, t descending.

    Raises:
      ConfigError: an unknown spacing or an impossible number of steps.
    """
    total = schedule.steps
    if not 1 <= steps <= total:
        raise ConfigError(f"sampling: steps must be between 1 and {total}, got {steps}")
    if spacing == "trailing":
        levels = np.round(np.linspace(total - 1, CLEAN, steps + 1)).astype(np.int32)
    elif spacing == "release":
        levels = np.append(0, np.arange(0, total, total // steps) + 1)[::-1].astype(np.int32)
        if levels[0] >= total:
            raise ConfigError(
                f"sampling: {steps} steps with release spacing start at t = {levels[0]}, but the schedule ends at "
                f"{total - 1}; choose another number of steps or trailing spacing"
            )
    else:
        raise ConfigError(f"sampling: unknown spacing {spacing!r}; known are release, trailing")
    return np.stack([levels[:-1], levels[1:]], axis=1)


def delayed(pairs: np.ndarray, delay: int, steps: int) -> np.ndarray:
    """The timesteps of a latent that starts `delay` steps late in a loop of `steps` steps.

    Args:
      pairs: [S, 2], see `timesteps`.
      delay: steps before the first row of `pairs`, at most steps - S.
      steps: number of rows to return.

    Returns:
      int32 [steps, 2]; in rows before and after those of `pairs` both timesteps are equal.
    """
    before, after = np.full((delay, 2), pairs[0, 0]), np.full((steps - delay - len(pairs), 2), pairs[-1, 1])
    return np.concatenate([before, pairs, after]).astype(np.int32)


@dataclasses.dataclass(frozen=True)
class JointStep:
    """One step of all latents together: network, conversion, update. Hashable, to be a static argument of jit.

    Attributes:
      predict: predict(args, z, t) -> guided predictions, of the structure and shapes of z. z is the pytree of latents,
        t int32 [B], or a pytree like z of those if the latents have timesteps of their own.
      schedule: the noise schedule.
      sampler: a key of SAMPLERS.
      kinds: prediction kind of each leaf of z, in tree order.
      noise_fn: noise_fn(args, index) -> standard normal noise of the structure of z; None for no noise.
    """

    predict: Callable[[PyTree, PyTree, PyTree], PyTree]
    schedule: Schedule
    sampler: str
    kinds: tuple[str, ...]
    noise_fn: Callable[[PyTree, Array], PyTree] | None = None

    def __call__(self, states: PyTree, args: PyTree, eta: Array, index: Array, t: Array, t_next: Array) -> PyTree:
        """Takes all latents from timestep t to t_next.

        Args:
          states: a pytree of `State`, one at each leaf of z.
          args: passed to predict and noise_fn.
          eta: η of DDIM.
          index: number of the step, from 0.
          t, t_next: scalars, or [K] for K latents in tree order. A latent with t = t_next does not change.

        Returns:
          The new states.
        """
        leaves, tree = jax.tree.flatten(states, is_leaf=lambda x: isinstance(x, State))
        z = tree.unflatten([state.z for state in leaves])
        size, per_latent = leaves[0].z.shape[:1], jnp.ndim(t) == 1
        levels = [jnp.full(size, t[k], jnp.int32) for k in range(len(leaves))] if per_latent else None
        batched_t = tree.unflatten(levels) if per_latent else jnp.full(size, t, jnp.int32)
        predictions = tree.flatten_up_to(self.predict(args, z, batched_t))
        noises = [None] * len(leaves) if self.noise_fn is None else tree.flatten_up_to(self.noise_fn(args, index))
        update = SAMPLERS[self.sampler].step
        out = []
        for k, (state, prediction, kind, noise) in enumerate(zip(leaves, predictions, self.kinds, noises, strict=True)):
            now, then = (t[k], t_next[k]) if per_latent else (t, t_next)
            new = update(state, prediction, kind, self.schedule.at(now), self.schedule.at(then), eta, noise)
            unchanged = now == then
            out.append(
                jax.tree.map(lambda x, y, same=unchanged: jnp.where(same, x, y), state, new) if per_latent else new
            )
        return tree.unflatten(out)


_jitted_step = functools.partial(jax.jit, static_argnums=0)(lambda step, *operands: step(*operands))


@functools.partial(jax.jit, static_argnums=0)
def _scan(step: JointStep, states: PyTree, args: PyTree, eta: Array, pairs: Array) -> PyTree:
    def body(states, x):
        return step(states, args, eta, *x), None

    return jax.lax.scan(body, states, (jnp.arange(len(pairs)), pairs[..., 0], pairs[..., 1]))[0]


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
      sampler: 'ddim' or 'dpmpp_2m'.
      eta: η of DDIM, between 0 and 1; above 0 it needs noise_fn.
      noise_fn: noise_fn(args, index of the step) -> standard normal noise of the structure of z.
      loop: 'scan', one program; 'host', one compiled step, called S times.

    Returns:
      The latents at timestep pairs[-1, ..., 1].

    Raises:
      ConfigError: an unknown sampler, kind or loop, or an eta that the sampler does not support.
    """
    if sampler not in SAMPLERS:
        raise ConfigError(f"sampling: unknown sampler {sampler!r}; known are {', '.join(SAMPLERS)}")
    if not 0 <= eta <= 1:
        raise ConfigError(f"sampling: eta must be between 0 and 1, got {eta}")
    if eta > 0 and not (SAMPLERS[sampler].stochastic and noise_fn is not None):
        raise ConfigError(f"sampling: eta is {eta}, but {sampler} has no noise here")
    kinds = (kind,) * len(jax.tree.leaves(z)) if isinstance(kind, str) else tuple(jax.tree.leaves(kind))
    step = JointStep(predict, schedule, sampler, kinds, noise_fn)
    z = jax.tree.map(lambda x: jnp.asarray(x, jnp.promote_types(x.dtype, jnp.float32)), z)
    states = jax.tree.map(SAMPLERS[sampler].init, z)
    if loop == "scan":
        states = _scan(step, states, args, eta, pairs)
    elif loop == "host":
        for index, row in enumerate(np.asarray(pairs)):
            states = _jitted_step(step, states, args, eta, index, row[..., 0], row[..., 1])
    else:
        raise ConfigError(f"sampling: unknown loop {loop!r}; known are host, scan")
    return jax.tree.map(lambda _, state: state.z, z, states)
