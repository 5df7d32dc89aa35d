"""Distillation to few steps: one step of a student takes the latent where several guided steps of a teacher take it.

The student of a modality A takes the S steps T-1 = t_0 > t_1 > … > t_S = clean of `trailing` spacing. z is a noisy
latent of A at t = t_i, t' = t_{i+1}, y the prompt and e the environment, tokens of the other outputs at timesteps of
their own. The teacher, with the weights that A had before, takes k steps of DDIM from t to t',

    z_{s'} = DDIM(z_s, p(z_s, s), s → s'),    p = u + s_y (c - u) + g (c_e - c)                        (1)

with the guidance p of `diffusion.guidance` (eq. 1 there): u without prompt and environment, c with the prompt, c_e with
both. It ends at z*. A step of DDIM from z with a prediction x of the clean latent ends at

    z' = a x + r z,    r = σ'/σ,    a = α' - r α                                                       (2)

so the student, a single network call with y and e and without guidance, ends at z* if it predicts

    x* = (z* - r z) / a,    L = ‖x* - x_θ(z, t, y, e)‖²                                                (3)

Equations (2) and (3) are progressive distillation (Salimans and Ho, "Progressive distillation for fast sampling of
diffusion models", arXiv 2202.00512, appendix G) with k steps of the teacher instead of two. Guidance in the teacher
alone is the first stage of Meng et al. (arXiv 2210.03142), here in the same step. Rounds (8, 4, 2, 1 steps) are stages
that depend on one another: the teacher of each is the student of the one before.

The other outputs stand still while the teacher moves, as the student sees them: at the timesteps of its grid or clean,
drawn independently of t, so that a student is right whether an output starts with it, before it or after it (`delay`).
A share of the samples has no environment, and prompts are dropped, as in sampling without them.

V of A uses the time embedding of A's denoiser. A stage leaves it frozen (`!COMPONENT/time/.*`), so that V and with it
the outputs that read A stay as they are, and stages of different modalities are independent of each other.
"""

import dataclasses
from functools import cached_property

import jax
import jax.numpy as jnp
import numpy as np

from codi_jax.codi import CoDi
from codi_jax.config import ConfigError, config_class, from_dict
from codi_jax.diffusion import losses, process
from codi_jax.diffusion.guidance import ClassifierFreeGuidance
from codi_jax.objectives import conditioning
from codi_jax.objectives.base import (
    SETTINGS,
    BatchObjective,
    LossTerms,
    StageSpec,
    no_statistics,
    refuse_lacking,
    register,
)
from codi_jax.objectives.batches import EncodedBatches, MediaBatches, batches_of
from codi_jax.objectives.conditioning import Encoded, NoisySample, PromptConfig
from codi_jax.objectives.teacher import Grid, Inputs, target
from codi_jax.rng import fold
from codi_jax.types import Array, PyTree, Tokens


def teacher_of(component: str) -> str:
    """The name under which a stage reads the teacher of a component; `init_from` says what it is a copy of."""
    return f"{component}_teacher"


@config_class()
class DistillationConfig:
    """Settings of the student of one modality.

    Attributes:
      steps: S, the steps of the student; `config.generate.steps` in sampling.
      prompts: the prompts; `drop` is the share of samples without one.
      guidance: of the teacher; `config.generate.guidance` before distillation. The student has none: scales of 1.
      substeps: k, the steps of the teacher for each of the student's.
      alone: share of the samples without an environment; 1 for a model without joint generation.
      own_share: largest share of V of the modality itself in its environment, as in `latent_alignment`.
      environment_noise: standard deviation of noise on the tokens of the others, as in `latent_alignment`.
    """

    steps: int
    prompts: PromptConfig
    guidance: ClassifierFreeGuidance = dataclasses.field(default_factory=ClassifierFreeGuidance)
    substeps: int = 4
    alone: float = 0.3
    own_share: float = 0.0
    environment_noise: float = 0.0

    def __post_init__(self):
        for name in ("steps", "substeps"):
            if (value := getattr(self, name)) < 1:
                raise ConfigError(f"{name}: expected a positive number, got {value}")
        for name in ("alone", "own_share"):
            if not 0 <= (value := getattr(self, name)) <= 1:
                raise ConfigError(f"{name}: expected a number between 0 and 1, got {value}")
        if self.environment_noise < 0:
            raise ConfigError(f"environment_noise: expected a number of at least 0, got {self.environment_noise}")


def environment(
    codi: CoDi,
    name: str,
    config: DistillationConfig,
    variables: dict,
    batch: dict[str, Encoded],
    seen: Array,
    key: jax.Array,
) -> Tokens:
    """Tokens of another modality that the sample has, drawn uniformly; and a share of the modality itself.

    Args:
      codi, name, config: the model, the modality and its settings.
      variables: of the teacher.
      batch: B samples of `name` and of other modalities.
      seen: the timesteps of which that of each modality is drawn.
      key: PRNG key.
    """
    size = batch[name].mean.shape[0]

    def tokens(other: str, key: jax.Array) -> Array:
        t = seen[jax.random.randint(fold(key, other, "t"), (size,), 0, len(seen))]
        sample = conditioning.add_noise(codi, other, batch[other], t, key)
        return codi[other].environment_tokens(variables, sample.z_t, t, timed=False)

    others = [other for other in batch if other != name]
    values = [tokens(other, key) for other in others]
    if config.environment_noise:
        keys = [fold(key, name, "environment noise", other) for other in others]
        values = [
            v + config.environment_noise * jax.random.normal(k, v.shape, v.dtype)
            for k, v in zip(keys, values, strict=True)
        ]
    present = [jnp.ones(size) if (p := batch[other].present) is None else p for other in others]
    draws = jax.random.uniform(fold(key, name, "environment"), (len(others), size), minval=1e-6)
    weights = jax.nn.one_hot((draws * jnp.stack(present)).argmax(0), len(others), axis=0)
    if config.own_share:
        own = fold(key, "own environment")
        values.append(tokens(name, own))
        share = jax.random.uniform(fold(own, name, "share"), (size,), maxval=config.own_share)
        weights = jnp.concatenate([weights * (1 - share), share[None]])
    seen_from = [*others, name] if config.own_share else others
    return codi.mix_environment(list(zip(seen_from, values, strict=True)), weights, timed=False)


@register("distillation")
@dataclasses.dataclass(frozen=True, eq=False)
class DistillationObjective(BatchObjective):
    """Trains the denoiser of one modality, and X in it, to take fewer steps and to need no guidance.

    Attributes:
      codi: the model.
      name: the modality.
      config: of the loss.
      batches: of `name` and of the modalities that prompt it and are generated with it.
      accumulate: number of microbatches.
    """

    codi: CoDi
    name: str
    config: DistillationConfig
    batches: EncodedBatches | MediaBatches
    accumulate: int = 1

    batch_multiple = 1
    statistics = no_statistics

    @classmethod
    def from_stage(cls, codi: CoDi, stage: StageSpec) -> "DistillationObjective":
        config, names = from_dict(DistillationConfig, stage.settings, SETTINGS), stage.modalities
        refuse_lacking(stage, names[:1])  # of the others, a sample is prompted by and attends to those that it has
        if config.alone < 1 and not names[1:]:
            raise ConfigError(f"{SETTINGS}.alone: {names[0]} is the stage's only modality, so alone must be 1")
        objective = cls(codi, names[0], config, batches_of(codi, stage), stage.accumulate)
        objective.grid  # noqa: B018  # an impossible number of steps is an error of the config
        return objective

    @cached_property
    def grid(self) -> Grid:
        """The timesteps of student and teacher."""
        return Grid.of(self.codi, self.config.steps, self.config.substeps)

    @property
    def student(self) -> tuple[str, ...]:
        """The components that the student has of its own."""
        roles = ("denoiser", "cross") if self.config.alone < 1 else ("denoiser",)
        return self.codi.components_of(roles, (self.name,))

    @property
    def components(self) -> tuple[str, ...]:
        names, joint = self.batches.modalities, self.config.alone < 1
        read = [m for m in names if joint and (m != self.name or self.config.own_share)]
        others = self.codi.components_of(("environment", "denoiser"), read)
        teacher = map(teacher_of, self.student)
        return tuple(dict.fromkeys((*self.student, *teacher, *others, *self.batches.components)))

    @property
    def outputs(self) -> tuple[str, ...]:
        return (self.name,)

    def init(self, key: jax.Array, components: tuple[str, ...]) -> dict[str, PyTree]:
        """See `Objective.init`; a teacher has the shapes of its student."""
        copies = {teacher_of(component): component for component in self.student}
        made = self.codi.init(key, tuple({copies.get(name, name) for name in components}))
        return {name: made[copies.get(name, name)] for name in components}

    def loss(self, variables: dict, batch: dict, key: jax.Array) -> LossTerms:
        encoded = self.batches.encode(variables, batch)
        size = encoded[self.name].mean.shape[0]
        step = jax.random.randint(fold(key, self.name, "step"), (size,), 0, self.config.steps)
        return LossTerms(self._errors(variables, encoded, key, step, self.config.prompts).mean(), {})

    def validation(self, variables: dict, batch: dict, key: jax.Array) -> dict[str, Array]:
        """The loss of samples that are spread evenly over the steps, and "loss/stepI" of each step."""
        encoded = self.batches.encode(variables, batch)
        step = np.arange(encoded[self.name].mean.shape[0]) % self.config.steps
        errors = self._errors(variables, encoded, key, jnp.asarray(step), self.config.prompts)
        by_step = {f"loss/step{k}": errors[step == k].mean() for k in range(self.config.steps) if (step == k).any()}
        return {"loss": errors.mean(), **by_step}

    def _teacher(self, variables: dict) -> dict:
        """The variables with which the teacher, and V of all modalities, are evaluated."""
        params = variables["params"]
        return {**variables, "params": {**params, **{name: params[teacher_of(name)] for name in self.student}}}

    def _errors(
        self, variables: dict, batch: dict[str, Encoded], key: jax.Array, step: Array, prompts: PromptConfig
    ) -> Array:
        """The loss (3) of every sample [B] at the student's steps `step` [B]."""
        codi, name, teacher = self.codi, self.name, self._teacher(variables)
        levels = jnp.asarray(self.grid.levels)[step]
        sample = conditioning.add_noise(codi, name, batch[name], levels[:, 0], key)
        inputs = jax.lax.stop_gradient(self._inputs(teacher, batch, key, prompts))
        wanted = target(codi, name, self.config.guidance, teacher, inputs, sample.z_t, levels)
        x0 = self._predict(variables, inputs, sample)
        return losses.diffusion_loss(x0, jax.lax.stop_gradient(wanted), jnp.float32(1))

    def _inputs(self, teacher: dict, batch: dict[str, Encoded], key: jax.Array, prompts: PromptConfig) -> Inputs:
        """Prompts and environment of a batch."""
        codi, name, size = self.codi, self.name, batch[self.name].mean.shape[0]
        prompt, null = (
            conditioning.context(codi, rule, teacher, batch, key, name)
            for rule in (prompts, dataclasses.replace(prompts, drop=1.0))
        )
        if self.config.alone == 1:
            return Inputs(prompt, null)
        gate = jax.random.bernoulli(fold(key, name, "joint"), 1 - self.config.alone, (size,)).astype(jnp.float32)
        tokens = environment(codi, name, self.config, teacher, batch, jnp.asarray(self.grid.seen), key)
        return Inputs(prompt, null, tokens, gate)

    def _predict(self, variables: dict, inputs: Inputs, sample: NoisySample) -> Array:
        """The student's prediction of the clean latent."""
        codi, z, t = self.codi, sample.z_t, sample.t
        prediction = codi[self.name].denoise(variables, z, t, inputs.prompt, inputs.environment, inputs.gate)
        level = codi.schedule.at(t, z)
        return process.convert(prediction, z, level.alpha, level.sigma, codi.config.prediction, "x0")
