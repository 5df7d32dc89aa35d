"""The joint denoiser: the guided prediction of an output, which attends to the environment tokens of the others.

    tokens_m = V_m(z_m, t_m) of every output m
    prediction_m = Σ_branches coefficient · f_m(z_m, t_m, prompt or null prompt, tokens of the others or none)

The branches of an output are one batch. V reads neither prompt nor branch and is evaluated once for all of them; X is
evaluated on the branches with the environment only, the last ones. All samples of an output are at one timestep, so
that one row of its time embedding serves all samples and branches.

Everything here is a pure function of arrays, so that a step can be compiled for one output or for all of them.
"""

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp

from codi_jax.codi import CoDi
from codi_jax.diffusion.adjustment import Adjust
from codi_jax.diffusion.guidance import Branch, guided
from codi_jax.rng import normal
from codi_jax.sampling.held import Kept
from codi_jax.types import Array, Tokens


@flax.struct.dataclass
class SamplerInputs:
    """What a sampling reads, beside latents, timesteps and guidance.

    Attributes:
      variables: parameters and constants of the model.
      prompt: tokens of the prompts, [n, L, D].
      null: tokens of the null prompt, [n, L, D]; None if the prompt is the null prompt.
      connectivity: output -> [M] weights of the modalities that it attends to.
      tokens: modality -> environment tokens [n, K, E]; zeros of modalities that are not generated.
      key: PRNG key of the noise that the sampler adds; or keys [n], one per sample.
      kept: output -> the cells that are kept, see `sampling.held`.
    """

    variables: dict[str, Any]
    prompt: Tokens
    null: Tokens | None
    connectivity: dict[str, Array]
    tokens: dict[str, Array]
    key: Array
    kept: dict[str, Kept] = dataclasses.field(default_factory=dict)

    def context(self, branches: Iterable[Branch]) -> Tokens:
        """The prompt or the null prompt of k branches, [k·n, L, D]."""
        prompts = [self.prompt if branch.prompt or self.null is None else self.null for branch in branches]
        return jax.tree.map(lambda *x: jnp.concatenate(x), *prompts)


@flax.struct.dataclass
class NetworkInputs:
    """What the compiled network calls of some outputs read in every step: nothing that they do not need.

    Attributes:
      variables: of the components that are evaluated.
      context: output -> the prompt or the null prompt of each of its k branches, [k·n, L, D].
      connectivity: output with a branch that reads the environment -> [M] weights.
      tokens: modality -> environment tokens [n, K, E]; {} if no branch reads them.
      key, kept: see `SamplerInputs`.
      adjust: output -> what is done with its guided prediction, see `AdjustedGuidance`.
    """

    variables: dict[str, Any]
    context: dict[str, Tokens]
    connectivity: dict[str, Array]
    tokens: dict[str, Array]
    key: Array
    kept: dict[str, Kept] = dataclasses.field(default_factory=dict)
    adjust: dict[str, Adjust] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True, eq=False)
class JointDenoiser:
    """Predictions of the outputs of a model.

    Attributes:
      codi: the model.
      by_norm: whether tokens of the environment count by their squared norms, see `codi_jax.codi`.
    """

    codi: CoDi
    by_norm: bool = False

    def environment_tokens(self, variables: dict, name: str, z: Array, t: Array) -> Array:
        """V of one output: [n, K, E] from its latent [n, *latent_shape] and its timestep, [1]."""
        # A finished output stays at the clean level, -1; the lowest timestep that V was trained on is 0. The time
        # embedding, one row, is computed here and again in the denoiser: less than 1 % of the operations of a step.
        return self.codi[name].environment_tokens(variables, z, jnp.maximum(t, 0))

    def predict(
        self,
        inputs: NetworkInputs,
        coefficients: Array,
        name: str,
        joint: int,
        z: Array,
        t: Array,
        tokens: Mapping[str, Array],
    ) -> Array:
        """The guided prediction of one output.

        Args:
          inputs: see `NetworkInputs`.
          coefficients: of its k branches, [k, n].
          name: of the output.
          joint: the number of branches that read the environment, the last ones.
          z: its latent [n, *latent_shape].
          t: its timestep, [1].
          tokens: environment tokens of all modalities; not read if `joint` is 0.
        """
        environment, gate = None, None
        if joint:
            mixed = self.codi.environment(tokens, inputs.connectivity[name], self.by_norm)
            environment, gate = jax.tree.map(lambda x: jnp.concatenate([x] * joint), mixed)
        k, kind, schedule = len(coefficients), self.codi.config.prediction, self.codi.schedule

        def denoise(z: Array) -> Array:
            stacked = self.codi[name].denoise(inputs.variables, z, t, inputs.context[name], environment, gate)
            adjust = inputs.adjust.get(name)
            return guided(stacked.reshape(k, *z.shape), coefficients, adjust, z, schedule.at(t, z), kind)

        if name not in inputs.kept:
            return denoise(z)
        return inputs.kept[name].predict(denoise, z, t, schedule, kind)

    def predict_all(
        self,
        inputs: NetworkInputs,
        coefficients: Mapping[str, Array],
        joint: Mapping[str, int],
        encoded: Iterable[str],
        z: dict[str, Array],
        t: dict[str, Array],
    ) -> dict[str, Array]:
        """The guided predictions of several outputs.

        Args:
          inputs: see `NetworkInputs`.
          coefficients, joint: see `predict`; of all outputs.
          encoded: outputs whose environment tokens are computed here; those of the others are in `inputs`.
          z, t: latents [n, *latent_shape] and timesteps [n] of the outputs.
        """
        of_outputs = {name: self.environment_tokens(inputs.variables, name, z[name], t[name][:1]) for name in encoded}
        tokens = {**inputs.tokens, **of_outputs}
        return {
            name: self.predict(inputs, coefficients[name], name, joint[name], z[name], t[name][:1], tokens)
            for name in z
        }

    def noise(self, key: Array, name: str, n: int, index: Array) -> Array:
        """The noise of one output in step `index`; its key depends on the name, so others do not change it."""
        return normal(key, n, self.codi[name].latent_shape, name, "step", index)
