"""The joint denoiser: the guided prediction of an output, which attends to the environment tokens of the others.

    tokens_m = V_m(z_m, t_m) of every output m
    prediction_m = Σ_branches coefficient · f_m(z_m, t_m, prompt or null prompt, tokens of the others or none)

Everything here is a pure function of arrays, so that a step can be compiled for one output or for all of them.
"""

import dataclasses
from collections.abc import Mapping
from functools import partial
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp

from codi_jax.codi import CoDi
from codi_jax.diffusion import guidance as guide
from codi_jax.rng import normal
from codi_jax.types import Array, Tokens


@flax.struct.dataclass
class SamplerInputs:
    """What the sampler reads in every step, beside latents and timesteps.

    Attributes:
      variables: parameters and constants of the model.
      context: tokens of the prompts, [n, L, D].
      null: tokens of the null prompt, [n, L, D].
      connectivity: output -> [M] weights of the modalities that it attends to.
      guidance: output -> coefficients of the branches, see `diffusion.guidance`.
      tokens: modality -> environment tokens [n, K, E]; zeros of modalities that are not generated.
      key: PRNG key of the noise that the sampler adds; or keys [n], one per sample.
    """

    variables: dict[str, Any]
    context: Tokens
    null: Tokens
    connectivity: dict[str, Array]
    guidance: dict[str, Any]
    tokens: dict[str, Array]
    key: Array

    def of(self, name: str) -> "SamplerInputs":
        """The inputs of one output but for variables: no program depends on which others are generated."""
        return dataclasses.replace(
            self, connectivity={name: self.connectivity[name]}, guidance={name: self.guidance[name]}
        )


@dataclasses.dataclass(frozen=True, eq=False)
class JointDenoiser:
    """Predictions of the outputs of a model.

    Attributes:
      codi: the model.
    """

    codi: CoDi

    def environment_tokens(self, variables: dict, name: str, z: Array, t: Array) -> Array:
        """V of one output: [n, K, E] from its latent [n, *latent_shape] and timesteps [n]."""
        # A finished output stays at the clean level, -1; the lowest timestep that V was trained on is 0.
        return self.codi[name].environment_tokens(variables, z, jnp.maximum(t, 0))

    def predict(
        self, inputs: SamplerInputs, name: str, z: Array, t: Array, tokens: Mapping[str, Array] | None
    ) -> Array:
        """The guided prediction of one output; `tokens` is None if it is the only output."""
        batch = z.shape[0]
        if tokens is None:
            branches, environment, gate = guide.ALONE, None, None
        else:
            branches = guide.RELEASE if self.codi.config.compat == "release" else guide.JOINT
            environment, gate = self.codi.environment(tokens, inputs.connectivity[name])
            repeat = partial(jnp.tile, reps=(len(branches), 1))
            gate = jnp.concatenate([gate * branch.environment for branch in branches])
            environment = Tokens(jnp.tile(environment.values, (len(branches), 1, 1)), repeat(environment.bias))
        prompts = [inputs.context if branch.prompt else inputs.null for branch in branches]
        context = jax.tree.map(lambda *x: jnp.concatenate(x), *prompts)
        k = len(branches)
        stacked = self.codi[name].denoise(
            inputs.variables, jnp.tile(z, (k,) + (1,) * (z.ndim - 1)), jnp.tile(t, k), context, environment, gate
        )
        coefficients = inputs.guidance[name](t, branches)
        return guide.combine(stacked.reshape(k, batch, *z.shape[1:]), coefficients)

    def predict_all(self, inputs: SamplerInputs, z: dict[str, Array], t: dict[str, Array]) -> dict[str, Array]:
        """The guided predictions of all outputs."""
        tokens = None
        if len(z) > 1:
            of_outputs = {name: self.environment_tokens(inputs.variables, name, z[name], t[name]) for name in z}
            tokens = {**inputs.tokens, **of_outputs}
        return {name: self.predict(inputs, name, z[name], t[name], tokens) for name in z}

    def noise(self, inputs: SamplerInputs, name: str, index: Array) -> Array:
        """The noise of one output in step `index`; its key depends on the name, so others do not change it."""
        n = inputs.context.values.shape[0]
        return normal(inputs.key, n, self.codi[name].latent_shape, name, "step", index)

    def noise_of_all(self, inputs: SamplerInputs, index: Array) -> dict[str, Array]:
        """The noise of all outputs in step `index`."""
        return {name: self.noise(inputs, name, index) for name in inputs.connectivity}
