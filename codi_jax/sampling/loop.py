"""The loop over sampler steps, for all outputs together.

Every network call of a step (a sampler may make several) is made for all outputs: first the environment tokens of all
of them, at their present latents and timesteps, then the prediction and the update of each.

All outputs take the same step at the same time, unless one is delayed. Training draws the timestep of every modality
independently, so that any combination of timesteps is in distribution, and a delayed output attends to outputs that are
less noisy than itself.

On CPU a host loop calls one compiled step for each modality (`loop: host`). The number of programs grows with the
number of modalities, not of their subsets: absent outputs enter as zero tokens of zero weight. On accelerators the
whole sampler is one program (`loop: scan`).
"""

import dataclasses
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding

from codi_jax.codi import CoDi
from codi_jax.config import ConfigError
from codi_jax.diffusion.samplers import (
    SAMPLERS,
    JointStep,
    State,
    adds_noise,
    delayed,
    network_calls,
    sample,
    timesteps,
)
from codi_jax.diffusion.samplers.loop import batch_timesteps
from codi_jax.parallel import replicated
from codi_jax.progress import ProgressFn
from codi_jax.sampling.config import GenerateConfig
from codi_jax.sampling.joint import JointDenoiser, SamplerInputs
from codi_jax.types import Array, PyTree


class Programs:
    """Jitted functions by kind and modality, each made at its first use."""

    def __init__(self) -> None:
        self._programs: dict[tuple[str, str], Any] = {}

    def get(self, kind: str, name: str, function: Callable[..., Any]) -> Any:
        """The jitted function of this kind and modality."""
        if (kind, name) not in self._programs:
            self._programs[kind, name] = jax.jit(function)
        return self._programs[kind, name]

    def compiled(self) -> int:
        """Number of programs compiled so far, over all batch sizes."""
        return sum(program._cache_size() for program in self._programs.values())


def mesh_replicator(variables: dict) -> Callable[[PyTree], PyTree]:
    """A function that replicates a pytree over the mesh of the parameters; the identity if they are on no mesh.

    jit recompiles for inputs with other shardings. All inputs of a step are replicated, so that its compilation does
    not depend on how they were computed.
    """
    leaf = next(iter(jax.tree.leaves(variables["params"])), None)
    sharding = getattr(leaf, "sharding", None)
    if isinstance(sharding, NamedSharding):
        return partial(jax.device_put, device=replicated(sharding.mesh))
    return lambda tree: tree


class JointSampler:
    """Samples latents with one model, one sampler and its timesteps.

    Args:
      codi: the model.
      config: sampler, timesteps and delays.
      programs: where compiled steps are kept; samplers of one model may share it.

    Raises:
      ConfigError: an unknown modality, a negative delay, or an eta that the sampler does not support.
    """

    def __init__(self, codi: CoDi, config: GenerateConfig, programs: Programs):
        for name, steps in config.delay.items():
            codi[name]
            if steps < 0:
                raise ConfigError(f"delay of {name}: {steps} steps; must be 0 or more")
        self._sampler = SAMPLERS[config.sampler]
        if not 0 <= config.eta <= (1 if self._sampler.noise == "eta" else 0):
            raise ConfigError(f"sampling: eta is {config.eta}, which {config.sampler} does not support")
        self._codi, self._config, self._programs = codi, config, programs
        self._denoiser, self._noisy = JointDenoiser(codi), adds_noise(self._sampler, config.eta)
        self._pairs = timesteps(codi.schedule, config.steps, config.spacing)
        self._scan = config.loop == "scan" or (config.loop == "auto" and jax.default_backend() != "cpu")

    def __call__(
        self, inputs: SamplerInputs, z: dict[str, Array], progress: ProgressFn | None = None
    ) -> dict[str, Array]:
        """Latents {output: [n, *latent_shape]} from noise z of the same shapes.

        `progress` is called before every network call of the host loop; once, before a scan.
        """
        if not self._scan:
            return self._host_loop(inputs, z, progress)
        if progress is not None:
            progress("sampling")
        out = sample(
            self._denoiser.predict_all,
            z,
            self._codi.schedule,
            self._levels(sorted(z)),
            args=inputs,
            kind=self._codi.config.prediction,
            sampler=self._config.sampler,
            eta=self._config.eta,
            noise_fn=self._denoiser.noise_of_all if self._noisy else None,
            loop="scan",
        )
        return {name: out[name] for name in z}  # jax has sorted the names

    def _levels(self, outputs: Sequence[str]) -> np.ndarray:
        """The timesteps (t, t_next) of K outputs in every step, [S, K, 2]."""
        delay = [self._config.delay.get(name, 0) for name in outputs]
        first, last = min(delay), max(delay)
        steps = len(self._pairs) + last - first
        return np.stack([delayed(self._pairs, late - first, steps) for late in delay], axis=1)

    def _step(self, name: str, alone: bool) -> Any:
        """The compiled network call and update of one output; `alone` without environment."""
        predict, noise = self._denoiser.predict, self._denoiser.noise
        step = JointStep(
            predict=lambda inputs, z, t: predict(inputs, name, z, t, None if alone else inputs.tokens),
            schedule=self._codi.schedule,
            sampler=self._config.sampler,
            kinds=(self._codi.config.prediction,),
            noise_fn=(lambda inputs, index: noise(inputs, name, index)) if self._noisy else None,
        )
        kind = f"advance by {self._config.sampler}{' with noise' if self._noisy else ''}{' alone' if alone else ''}"
        return self._programs.get(kind, name, step)

    def _tokens(self, name: str, variables: dict, state: State, t: Array) -> Array:
        return self._denoiser.environment_tokens(variables, name, state.z, batch_timesteps(t, state.z.shape[:1]))

    def _host_loop(self, inputs: SamplerInputs, z: dict[str, Array], progress: ProgressFn | None) -> dict[str, Array]:
        alone, replicate = len(z) == 1, mesh_replicator(inputs.variables)
        roles = ("denoiser",) if alone else ("denoiser", "cross")
        variables = {name: self._codi[name].subset(inputs.variables, roles) for name in z}
        environments = {name: self._codi[name].subset(inputs.variables, ("denoiser", "environment")) for name in z}
        states = {name: self._sampler.init(x) for name, x in z.items()}
        calls = network_calls(self._levels(tuple(z)), self._sampler.evaluations)
        for i, (index, evaluation) in enumerate(zip(calls.step, calls.evaluation, strict=True)):
            if progress is not None:
                jax.block_until_ready(states)
                progress("sampling", i, len(calls.step))
            now = dict(zip(z, calls.pairs[i], strict=True))
            tokens = dict(inputs.tokens)
            if not alone:
                for name, state in states.items():
                    program = self._programs.get("environment", name, partial(self._tokens, name))
                    tokens[name] = replicate(program(environments[name], state, now[name][int(evaluation > 0)]))
            new = {}
            for name, state in states.items():
                t, t_next = now[name]
                if t == t_next:  # this output has not started, or it is finished
                    new[name] = state
                    continue
                own = dataclasses.replace(inputs.of(name), tokens=tokens, variables=variables[name])
                step, eta = self._step(name, alone), jnp.float32(self._config.eta)
                new[name] = replicate(step(state, own, eta, index, t, t_next, evaluation))
            states = new
        return {name: state.z for name, state in states.items()}
