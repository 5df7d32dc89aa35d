"""What the networks of the packaged model do with real test samples: embeddings, tokens of V, effects of X.

A noise level is a fraction of T. All outputs of a sample are at the same level, each with its own noise.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.conditions import real_samples
from codi_jax.codi import CoDi
from codi_jax.diffusion import process
from codi_jax.objectives import conditioning
from codi_jax.packaged import Package
from codi_jax.pipeline import Pipeline
from codi_jax.rng import fold
from codi_jax.types import Array, Tokens


@dataclasses.dataclass(frozen=True, eq=False)
class Real:
    """Real samples, encoded.

    Attributes:
      codi: the model.
      variables: its parameters and constants.
      factors: factor -> int [n].
      latents: modality -> normalised latents [n, *latent_shape].
      prompts: modality -> prompts [n, D].
      by_norm: whether tokens of several others count by their norms, as in the settings of sampling.
      seed: of the noise.
    """

    codi: CoDi
    variables: dict[str, Any]
    factors: Mapping[str, np.ndarray]
    latents: Mapping[str, Array]
    prompts: Mapping[str, Array]
    by_norm: bool = False
    seed: int = 0

    @classmethod
    def read(cls, package: Package, pipe: Pipeline, n: int) -> "Real":
        """The first n samples of the test split."""
        codi, variables, real = package.codi, package.read("model"), real_samples(pipe, n)
        encode = jax.jit(lambda variables, batch: conditioning.encode(codi, variables, batch))
        encoded = {}
        for name, values in real["values"].items():
            encoded |= encode(variables, {name: codi[name].preprocess(values)})
        latents = {name: of.mean for name, of in encoded.items()}
        prompts = {name: of.prompt for name, of in encoded.items()}
        return cls(codi, variables, real["factors"], latents, prompts, pipe.config.environment == "by_norm")

    @cached_property
    def names(self) -> tuple[str, ...]:
        """The modalities, in the order of the model."""
        return tuple(self.codi.modalities)

    @cached_property
    def _programs(self) -> dict[str, Any]:
        codi = self.codi

        def environment(name: str) -> Any:
            return jax.jit(lambda variables, z, t: codi[name].environment_tokens(variables, z, t))

        def denoise(name: str) -> Any:
            return jax.jit(lambda variables, z, t, *tokens: codi[name].denoise(variables, z, t, *tokens))

        made = {"environment": environment, "denoise": denoise}
        return {f"{kind} {name}": make(name) for kind, make in made.items() for name in self.names}

    def timestep(self, level: float) -> Array:
        """The timestep of a noise level, [1]."""
        return jnp.array([round(level * (self.codi.schedule.steps - 1))])

    def noisy(self, name: str, level: float, draw: int = 0) -> Array:
        """z_t of all samples; another `draw` is other noise."""
        z = self.latents[name]
        noise = jax.random.normal(fold(jax.random.key(self.seed), name, "noise", draw), z.shape)
        return process.corrupt(self.codi.schedule, z, self.timestep(level)[0], noise)

    @cached_property
    def _kept(self) -> dict[Any, Array]:
        return {}

    def tokens(self, name: str, level: float, draw: int = 0) -> Array:
        """V of all samples, [n, K, E]; computed once."""
        if (key := ("tokens", name, level, draw)) not in self._kept:
            program = self._programs[f"environment {name}"]
            self._kept[key] = program(self.variables, self.noisy(name, level, draw), self.timestep(level))
        return self._kept[key]

    def predicted(
        self, name: str, level: float, prompt: Array | None = None, tokens: Mapping[str, Array] | None = None
    ) -> Array:
        """x̂0 of one output, from z_t of all samples.

        Args:
          name: of the output.
          level: the noise level.
          prompt: [n, D]; None for the null prompt.
          tokens: V of the modalities, [n, K, E]; None for an output that is generated alone.
        """
        codi, z, t = self.codi, self.noisy(name, level), self.timestep(level)
        given = jnp.zeros((len(z), codi.config.width)) if prompt is None else prompt
        environment: tuple[Any, ...] = ()
        if tokens is not None:
            row = codi.connectivity(self.names)[self.names.index(name)]
            environment = codi.environment(tokens, jnp.asarray(row), self.by_norm)
        made = self._programs[f"denoise {name}"](self.variables, z, t, Tokens.of(given[:, None]), *environment)
        at = codi.schedule.at(t, z)
        return process.convert(made, z, at.alpha, at.sigma, codi.config.prediction, "x0")


def unit(x: Array) -> np.ndarray:
    """Vectors [n, D] of length 1."""
    return np.asarray(x / jnp.linalg.norm(x, axis=-1, keepdims=True))


def alignment(real: Real, a: str, b: str, factor: str, count: int) -> list[list[float | None]]:
    """The mean cosine of prompts of two modalities, by the `count` values of a factor of their samples, [count, count].

    None where no sample has the value.
    """
    cosines, values = unit(real.prompts[a]) @ unit(real.prompts[b]).T, real.factors[factor]
    blocks = [[cosines[values == i][:, values == j] for j in range(count)] for i in range(count)]
    return [[float(block.mean()) if block.size else None for block in row] for row in blocks]


def token_cosines(real: Real, level: float) -> tuple[np.ndarray, np.ndarray]:
    """Mean cosines of V, [M, M]: of two modalities of one sample (on the diagonal: of two draws of noise), and of two
    samples."""
    one, two = ({name: unit(real.tokens(name, level, draw).mean(1)) for name in real.names} for draw in (0, 1))
    size = len(real.names)
    same, other = np.zeros((size, size)), np.zeros((size, size))
    for i, a in enumerate(real.names):
        for j, b in enumerate(real.names):
            cosines = one[a] @ (two if i == j else one)[b].T
            same[i, j] = np.diag(cosines).mean()
            other[i, j] = cosines[~np.eye(len(cosines), dtype=bool)].mean()
    return same, other


def swapped(tokens: Mapping[str, Array], names: Sequence[str]) -> dict[str, Array]:
    """Tokens of which those of some modalities are those of the next sample."""
    return {name: jnp.roll(x, 1, axis=0) if name in names else x for name, x in tokens.items()}


def change(real: Real, output: str, level: float, names: Sequence[str], clean: bool = False) -> float:
    """How much the prediction of an output changes where V of some modalities is of another sample.

    Args:
      real: the samples.
      output: the modality that is predicted.
      level: the noise level, of V too.
      names: the modalities whose V is exchanged.
      clean: whether V is of latents without noise instead.

    Returns:
      The mean squared change of x̂0 over that between the latents of two samples.
    """
    tokens, z = {name: real.tokens(name, 0.0 if clean else level) for name in real.names}, real.latents[output]
    one, other = (real.predicted(output, level, tokens=of) for of in (tokens, swapped(tokens, names)))
    return float(jnp.square(one - other).mean() / jnp.square(z - jnp.roll(z, 1, axis=0)).mean())


def shares(real: Real, output: str, level: float) -> dict[str, float]:
    """For each of the other modalities, the change where V of it alone is of another sample, over that of all."""
    others = [name for name in real.names if name != output]
    total = change(real, output, level, others)
    return {name: change(real, output, level, [name]) / total if total else 0.0 for name in others}


def decoded(real: Real, name: str, z: Array) -> list[Any]:
    """Raw values of normalised latents."""
    codi = real.codi
    return codi[name].postprocess(jax.jit(codi[name].decode_latent)(real.variables, z))
