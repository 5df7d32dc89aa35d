"""The loop over sampler steps, for all outputs together.

Every network call of a step (a sampler may make several) is made for all outputs: first the environment tokens of all
of them, at their present latents and timesteps, then the prediction and the update of each.

All outputs take the same step at the same time, unless one is delayed. Training draws the timestep of every modality
independently, so that any combination of timesteps is in distribution, and a delayed output attends to outputs that are
less noisy than itself.

Only what counts is computed (`work`): the denoiser of an output that moves, on the branches whose coefficient is not 0;
and V of an output whose tokens are read, once while it waits.

On CPU a host loop calls one compiled step for each modality (`loop: host`). The number of programs grows with the
number of modalities, not of their subsets: absent outputs enter as zero tokens of zero weight. On accelerators
consecutive calls of equal work are one program (`loop: scan`): the whole sampler, unless the interval of guidance or a
delay divides it. Such segments are programs of their own, rather than loops of one program, so that other guidance
compiles only the segments that are new.
"""

import contextlib
import functools
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding

from codi_jax.codi import CoDi
from codi_jax.config import ConfigError
from codi_jax.diffusion.guidance import ALONE, JOINT, RELEASE, AdjustedGuidance, Guidance
from codi_jax.diffusion.samplers import SAMPLERS, JointStep, State, adds_noise, delayed, network_calls, timesteps
from codi_jax.diffusion.samplers.loop import batch_timesteps, scan
from codi_jax.modalities.base import TIMING
from codi_jax.parallel import replicate
from codi_jax.progress import ProgressFn
from codi_jax.sampling.config import GenerateConfig
from codi_jax.sampling.joint import JointDenoiser, NetworkInputs, SamplerInputs
from codi_jax.sampling.previews import PreviewFn, Previews
from codi_jax.sampling.work import Work, WorkPlan
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


def _mesh_of(variables: dict) -> Mesh | None:
    """The mesh of the parameters; None if they are on no mesh."""
    leaf = next(iter(jax.tree.leaves(variables["params"])), None)
    sharding = getattr(leaf, "sharding", None)
    return sharding.mesh if isinstance(sharding, NamedSharding) and isinstance(sharding.mesh, Mesh) else None


def on_mesh(variables: dict) -> AbstractContextManager[Any]:
    """A context in which programs split activations over the mesh of the parameters (`parallel.activations`)."""
    mesh = _mesh_of(variables)
    return contextlib.nullcontext() if mesh is None else jax.set_mesh(mesh)


def mesh_replicator(variables: dict) -> Callable[[PyTree], PyTree]:
    """A function that replicates a pytree over the mesh of the parameters; the identity if they are on no mesh.

    jit recompiles for inputs with other shardings. All inputs of a step are replicated, so that its compilation does
    not depend on how they were computed.
    """
    mesh = _mesh_of(variables)
    return (lambda tree: tree) if mesh is None else partial(replicate, mesh=mesh)


class JointSampler:
    """Samples latents with one model, one sampler and its timesteps.

    Args:
      codi: the model.
      config: sampler, timesteps and delays.
      programs: where compiled steps are kept; samplers of one model may share it.

    Raises:
      ConfigError: an unknown modality, a negative delay, a weight that is not positive, weights of what the release
        does not read, or an eta that the sampler does not support.
    """

    def __init__(self, codi: CoDi, config: GenerateConfig, programs: Programs):
        for name, steps in config.delay.items():
            codi[name]
            if steps < 0:
                raise ConfigError(f"delay of {name}: {steps} steps; must be 0 or more")
        for name, weight in config.environment_weights.items():
            codi[name]
            if not 0 < weight < math.inf:
                raise ConfigError(f"environment_weights of {name}: expected a positive number, got {weight}")
        weighted = config.environment != "mean" or any(weight != 1 for weight in config.environment_weights.values())
        if codi.config.compat == "release" and weighted:
            why = "in the release (compat: release) no output reads another one"
            raise ConfigError(f"config.generate: {why}; leave out environment and environment_weights")
        self._sampler = SAMPLERS[config.sampler]
        if not 0 <= config.eta <= (1 if self._sampler.noise == "eta" else 0):
            raise ConfigError(f"sampling: eta is {config.eta}, which {config.sampler} does not support")
        self._codi, self._config, self._programs = codi, config, programs
        by_norm = config.environment == "by_norm"
        self._denoiser, self._noisy = JointDenoiser(codi, by_norm), adds_noise(self._sampler, config.eta)
        self._pairs = timesteps(codi.schedule, config.steps, config.spacing)
        self._scan = config.loop == "scan" or (config.loop == "auto" and jax.default_backend() != "cpu")

    def __call__(
        self,
        inputs: SamplerInputs,
        guidance: Mapping[str, Guidance],
        z: Mapping[str, Array],
        progress: ProgressFn | None = None,
        shares: Mapping[str, float] | None = None,
        preview: PreviewFn | None = None,
    ) -> dict[str, Array]:
        """Samples, on the mesh of the parameters.

        Args:
          inputs: see `SamplerInputs`.
          guidance: output -> its rule.
          z: output -> noise [n, *latent_shape], or what it starts from.
          progress: called before every network call of the host loop; once, before a scan.
          shares: output -> the share of its steps that are taken; 1 if not given, see `Held`.
          preview: called after every network call of the host loop, if the sampler adds no noise, see `previews`.

        Returns:
          Latents of the names, shapes and order of z.
        """
        with on_mesh(inputs.variables):
            return self._sample(inputs, guidance, z, progress, shares, preview)

    def _sample(
        self,
        inputs: SamplerInputs,
        guidance: Mapping[str, Guidance],
        z: Mapping[str, Array],
        progress: ProgressFn | None,
        shares: Mapping[str, float] | None,
        preview: PreviewFn | None,
    ) -> dict[str, Array]:
        rules, n = {name: guidance[name] for name in z}, len(next(iter(z.values())))
        plan = self.plan(rules, n, inputs.null is not None, shares)
        found = {name: rule.adjustment() for name, rule in rules.items() if isinstance(rule, AdjustedGuidance)}
        adjust = {name: of for name, of in found.items() if of is not None}
        replicate = mesh_replicator(inputs.variables)
        context = functools.cache(lambda branches: replicate(inputs.context(branches)))
        states = {
            name: self._sampler.init(jnp.asarray(x, jnp.promote_types(x.dtype, jnp.float32))) for name, x in z.items()
        }
        if self._scan and progress is not None:
            progress("sampling")
        shown = None
        if preview is not None and not self._scan and not self._noisy:
            shown = Previews(preview, plan, self._codi.schedule)
        tokens: dict[str, Array] = {}  # of outputs that have not moved since
        for rows in plan.segments() if self._scan else plan.single_calls():
            if not self._scan and progress is not None:
                jax.block_until_ready(states)
                progress("sampling", rows.start, len(plan.work))
            work = plan.work[rows.start]
            moving = tuple(sorted(work.branches))  # the order of a pytree
            encoded = tuple(name for name in moving if name in work.read) if self._scan else ()
            for name in work.read:
                if name not in encoded and name not in tokens:
                    made = self._encode(inputs.variables, name, states[name], plan.seen(name, rows.start))
                    tokens[name] = replicate(made)
            new: dict[str, State] = {}
            for names in (moving,) if self._scan else ((name,) for name in moving):
                own = NetworkInputs(
                    variables=self._variables(inputs.variables, work, names, encoded),
                    context={name: context(work.branches[name]) for name in names},
                    connectivity={name: inputs.connectivity[name] for name in names if work.joint(name)},
                    tokens={**inputs.tokens, **tokens} if any(map(work.joint, names)) else {},
                    key=inputs.key,
                    kept={name: inputs.kept[name] for name in names if name in inputs.kept},
                    adjust={name: adjust[name] for name in names if name in adjust},
                )
                new |= self._advance(plan, rows, names, encoded, {name: states[name] for name in names}, own)
            if shown is not None:
                shown(rows.start, states, new)
            states |= replicate(new)
            tokens = {name: values for name, values in tokens.items() if name not in new}
        return {name: states[name].z for name in z}

    def plan(
        self,
        guidance: Mapping[str, Guidance],
        n: int,
        prompted: bool = True,
        shares: Mapping[str, float] | None = None,
    ) -> WorkPlan:
        """The work of all network calls.

        Args:
          guidance: output -> its rule.
          n: number of samples.
          prompted: whether the prompt differs from the null prompt.
          shares: see `__call__`.
        """
        codi, outputs = self._codi, tuple(guidance)
        connectivity = dict(zip(codi.modalities, codi.connectivity(outputs), strict=True))
        sources = {
            name: [m for m, weight in zip(codi.modalities, connectivity[name], strict=True) if weight]
            for name in outputs
        }
        joint = RELEASE if codi.config.compat == "release" else JOINT
        return WorkPlan.of(
            {name: rule.coefficients(codi.schedule.steps) for name, rule in guidance.items()},
            network_calls(self._levels(outputs, shares or {}), self._sampler.evaluations),
            joint if len(outputs) > 1 else ALONE,
            sources,
            n,
            prompted,
        )

    def first_timestep(self, share: float) -> np.generic:
        """The timestep at which an output starts that takes a share of its steps; the clean level for none."""
        pairs = self._taken(share)
        return pairs[0, 0] if len(pairs) else self._pairs[-1, 1]

    def _taken(self, share: float) -> np.ndarray:
        """The last steps of an output that takes a share of them, at least one if it takes any, [S', 2]."""
        steps = len(self._pairs)
        return self._pairs[steps - min(steps, max(round(share * steps), share > 0)) :]

    def _levels(self, outputs: Sequence[str], shares: Mapping[str, float]) -> np.ndarray:
        """The timesteps (t, t_next) of K outputs in every step, [S, K, 2]; one that takes fewer waits at its first."""
        delay = {name: self._config.delay.get(name, 0) for name in outputs}
        taken = {name: self._taken(shares.get(name, 1.0)) for name in outputs}
        first = {name: delay[name] + len(self._pairs) - len(taken[name]) for name in outputs}
        begin = min(first[name] for name in outputs if len(taken[name]))
        steps = max(first[name] + len(taken[name]) for name in outputs if len(taken[name])) - begin
        clean = np.full((steps, 2), self._pairs[-1, 1])
        rows = [delayed(taken[m], first[m] - begin, steps) if len(taken[m]) else clean for m in outputs]
        return np.stack(rows, axis=1)

    def _variables(self, variables: dict, work: Work, names: Iterable[str], encoded: Iterable[str]) -> dict:
        """Variables of the components that the calls of some outputs evaluate."""
        out: dict[str, dict] = {kind: {} for kind in variables}
        for name in names:
            joint, encodes = work.joint(name), name in encoded
            roles = {"denoiser": True, "cross": joint, "environment": encodes, TIMING: joint or encodes}
            own = self._codi[name].subset(variables, [role for role, evaluated in roles.items() if evaluated])
            out = {kind: {**tree, **own[kind]} for kind, tree in out.items()}
        return out

    def _encode(self, variables: dict, name: str, state: State, t: np.generic) -> Array:
        """The environment tokens of one output, by a compiled program."""

        def encode(variables: dict, state: State, t: Array) -> Array:
            return self._denoiser.environment_tokens(variables, name, state.z, batch_timesteps(t, (1,)))

        program = self._programs.get("environment", name, encode)
        return program(self._codi[name].subset(variables, ("denoiser", "environment", TIMING)), state, t)

    def _advance(
        self,
        plan: WorkPlan,
        rows: slice,
        names: tuple[str, ...],
        encoded: tuple[str, ...],
        states: dict[str, State],
        inputs: NetworkInputs,
    ) -> dict[str, State]:
        """Takes outputs through network calls of equal work, by a compiled program: of one call, or a scan."""
        denoiser, work = self._denoiser, plan.work[rows.start]
        joint = {name: work.joint(name) for name in names}

        def predict(args: tuple[NetworkInputs, dict[str, Array]], z: dict[str, Array], t: dict[str, Array]) -> PyTree:
            return denoiser.predict_all(*args, joint, encoded, z, t)

        def noise(args: tuple[NetworkInputs, dict[str, Array]], index: Array) -> PyTree:
            return {name: denoiser.noise(args[0].key, name, args[1][name].shape[1], index) for name in names}

        step = JointStep(
            predict,
            self._codi.schedule,
            self._config.sampler,
            (self._codi.config.prediction,) * len(names),
            noise if self._noisy else None,
        )
        eta, index, evaluation = jnp.float32(self._config.eta), plan.calls.step[rows], plan.calls.evaluation[rows]
        pairs = np.stack([plan.timesteps(name)[rows] for name in names], axis=1)
        coefficients = {name: plan.coefficients_of(name, rows) for name in names}
        how = f"by {self._config.sampler}{' with noise' if self._noisy else ''}, branches with environment: {joint}"
        how += ", by norm" * self._denoiser.by_norm
        if self._scan:
            program = self._programs.get(f"scan {how}, encoded: {encoded}", "+".join(names), partial(scan, step))
            return program(states, inputs, eta, index, pairs, evaluation, coefficients)
        program = self._programs.get(f"advance {how}", names[0], step)
        args = inputs, {name: values[0] for name, values in coefficients.items()}
        return program(states, args, eta, index[0], pairs[0, :, 0], pairs[0, :, 1], evaluation[0])
