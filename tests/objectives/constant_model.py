"""A model with constant outputs, so that a loss can be computed by hand."""

from types import SimpleNamespace

import jax.numpy as jnp
import numpy as np

from codi_jax.codi import CoDi
from codi_jax.diffusion import schedules
from codi_jax.objectives.conditioning import Encoded


class ConstantModality:
    """Predicts `answer` everywhere, has the environment token `token`, and records the calls of `denoise`."""

    timed_tokens = 0

    def __init__(self, answer=0.0, token=0.0, width=4):
        self.answer, self.token, self.width, self.calls = answer, token, width, []

    def denoise(self, variables, z, t, context, environment=None, gate=None):
        self.calls.append(SimpleNamespace(z=z, t=t, context=context, environment=environment, gate=gate))
        return jnp.full_like(z, self.answer)

    def environment_tokens(self, variables, z, t, timed=True):
        return jnp.full((z.shape[0], 1, self.width), self.token)


class ConstantModel(dict):
    """A CoDi of constant modalities."""

    mix_environment = CoDi.mix_environment

    def __init__(self, prediction="eps", **modalities):
        super().__init__(modalities)
        self.config = SimpleNamespace(prediction=prediction, environment_tokens="pooled")
        self.schedule = schedules.make("cosine")
        self.null = 0.0

    def null_prompts(self, variables, names, batch):
        return {name: jnp.full((batch, 4), self.null) for name in names}


def encoded(size, prompt=1.0, full=1.0):
    """An encoded batch: zero latents with zero std, prompts filled with one number."""
    zeros, ones = np.zeros((size, 3), np.float32), np.ones((size, 4), np.float32)
    return Encoded(zeros, zeros, prompt * ones, full * ones)
