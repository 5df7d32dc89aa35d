"""The teacher of a distillation: the timesteps that it takes, its guided prediction, and the target of the student.

The equations are those of `objectives.distillation`.
"""

import dataclasses

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np

from codi_jax.codi import CoDi
from codi_jax.config import ConfigError
from codi_jax.diffusion import guidance
from codi_jax.diffusion.guidance import ALONE, JOINT, RELEASE, Branch, ClassifierFreeGuidance
from codi_jax.diffusion.samplers import SAMPLERS, State, timesteps
from codi_jax.objectives.base import SETTINGS
from codi_jax.types import Array, PyTree, Tokens


@dataclasses.dataclass(frozen=True)
class Grid:
    """The timesteps of student and teacher.

    Attributes:
      levels: int32 [S, k + 1], the teacher's timesteps in each step of the student, from t_i to t_{i+1}.
    """

    levels: np.ndarray

    @classmethod
    def of(cls, codi: CoDi, steps: int, substeps: int) -> "Grid":
        """The grid of S steps of the student, each of k steps of the teacher.

        Raises:
          ConfigError: the schedule has fewer timesteps than the teacher takes steps.
        """
        if steps * substeps > codi.schedule.steps:
            raise ConfigError(
                f"{SETTINGS}.substeps: {steps} steps of {substeps} are more than the {codi.schedule.steps} timesteps "
                "of the schedule"
            )
        coarse = timesteps(codi.schedule, steps)
        between = timesteps(codi.schedule, steps * substeps)[:, 0].reshape(steps, substeps)[:, 1:]
        return cls(np.concatenate([coarse[:, :1], between, coarse[:, 1:]], axis=1))

    @property
    def seen(self) -> np.ndarray:
        """The timesteps at which V sees an output, int32 [S + 1]: those of the steps, and 0 of a finished output."""
        return np.append(self.levels[:, 0], 0).astype(np.int32)


@flax.struct.dataclass
class Inputs:
    """What a prediction reads beside z and t, of B samples.

    Attributes:
      prompt, null: tokens of the prompts and of the null prompts, [B, L, D]; the same for samples without a prompt.
      environment: tokens of the other outputs [B, K, E]; None if no sample has an environment.
      gate: [B], 0 for samples without an environment.
    """

    prompt: Tokens
    null: Tokens
    environment: Tokens | None = None
    gate: Array | None = None


def _repeat(tree: PyTree, count: int) -> PyTree:
    return jax.tree.map(lambda x: jnp.concatenate([x] * count), tree)


def guided(
    codi: CoDi, name: str, rule: ClassifierFreeGuidance, variables: dict, inputs: Inputs, z: Array, t: Array
) -> Array:
    """The guided prediction p of (1) at timesteps t [B], of the shape of z [B, *latent_shape]."""
    branches: tuple[Branch, ...] = ALONE
    if inputs.environment is not None:
        branches = RELEASE if codi.config.compat == "release" else JOINT
    count, joint = len(branches), sum(branch.environment for branch in branches)
    prompts = [inputs.prompt if branch.prompt else inputs.null for branch in branches]
    context = jax.tree.map(lambda *x: jnp.concatenate(x), *prompts)
    environment, gate = _repeat((inputs.environment, inputs.gate), joint)
    stacked = codi[name].denoise(variables, _repeat(z, count), _repeat(t, count), context, environment, gate)
    coefficients = rule.coefficients(codi.schedule.steps)(t, branches)
    level, stacked = codi.schedule.at(t, z), stacked.reshape(count, *z.shape)
    kind = codi.config.prediction
    return guidance.guided(stacked, coefficients, rule.adjustment(), z, level, kind).astype(z.dtype)


def target(
    codi: CoDi,
    name: str,
    rule: ClassifierFreeGuidance,
    variables: dict,
    inputs: Inputs,
    z: Array,
    levels: Array,
) -> Array:
    """x* of (3).

    Args:
      codi, name: the model and the modality.
      rule: guidance of the teacher.
      variables: of the teacher.
      inputs: see `Inputs`.
      z: noisy latents at the first level, [B, *latent_shape].
      levels: the timesteps of the teacher, [B, k + 1].
    """
    schedule, kind, end = codi.schedule, codi.config.prediction, z
    for now, then in zip(levels.T[:-1], levels.T[1:], strict=True):
        prediction = guided(codi, name, rule, variables, inputs, end, now)
        at, to = schedule.at(now, z), schedule.at(then, z)
        end = SAMPLERS["ddim"].step(State(end), prediction, kind, at, to, jnp.float32(0), None).z
    at, to = schedule.at(levels[:, 0], z), schedule.at(levels[:, -1], z)
    ratio = to.sigma / at.sigma
    return (end - ratio * z) / (to.alpha - ratio * at.alpha)
