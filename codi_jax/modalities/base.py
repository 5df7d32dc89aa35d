"""What CoDi asks of a modality.

A modality refers to components by role: a codec, a prompt encoder C, a denoiser ε, an environment encoder V and the
cross-modal attention X. Two modalities may name the same component. Everything here is a pure function of
`variables = {"params": {component: ...}, "constants": {component: ...}}`: constants are what never trains, namely the
latent statistics of a codec and the centre and scale of a prompt encoder,

    z = (codec(x) - shift) · scale,        c = (C(x)/‖C(x)‖ - centre) · gain.
"""

import abc
import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from codi_jax.config import ConfigError
from codi_jax.nn.denoiser import Denoiser
from codi_jax.nn.environment import EnvironmentConfig, EnvironmentEncoder
from codi_jax.nn.unet import UNetConfig
from codi_jax.types import Array, Tokens

Variables = dict[str, dict[str, Any]]
ROLES = ("codec", "prompt", "denoiser", "environment", "cross")  # of every modality; one may have more


@dataclasses.dataclass(frozen=True)
class ModelDims:
    """What all modalities of one model share.

    Attributes:
      width: D, width of the prompt space.
      environment_width: E, width of the environment space; D unless the release's.
      compat: `true` for CoDi as the paper defines it, `release` for the public code (aliased last skip).
      dtype: compute type; parameters are float32.
      remat: networks that are trained compute each block's activations again in the backward pass.
    """

    width: int
    environment_width: int
    compat: str = "true"
    dtype: str = "float32"
    remat: bool = False


class Modality(abc.ABC):
    """One modality: its media, its components, its files. Subclasses set the class attributes and build modules."""

    name: str
    suffix: str  # of the files it writes
    components: Mapping[str, str]  # role -> component name
    denoiser_config: UNetConfig
    environment_config: EnvironmentConfig
    codec: nn.Module
    encoder: nn.Module
    latent_shape: tuple[int, ...]  # without the batch
    sampled_posterior = True  # whether a latent is drawn of its posterior, or is its mean

    def __init__(self, dims: ModelDims, components: Mapping[str, str] = MappingProxyType({})):
        """`components` renames some of the class's, so that modalities share what they would not, or part."""
        if unknown := [role for role in components if role not in self.components]:
            raise ConfigError(
                f"config.model.modalities.{self.name}.components: no role {', '.join(unknown)}; "
                f"there are {', '.join(self.components)}"
            )
        self.components = {**self.components, **components}
        self.dims = dims
        self.dtype = jnp.dtype(dims.dtype)

    def _build_denoiser(self) -> None:
        self.denoiser = Denoiser(
            self.denoiser_config,
            self.dims.environment_width,
            dtype=self.dtype,
            alias_skip=self.dims.compat == "release",
            remat=self.dims.remat,
        )
        self.environment = EnvironmentEncoder(self.environment_config, dtype=self.dtype, remat=self.dims.remat)

    def _require(self, condition: bool, what: str) -> None:
        """Raises ConfigError, `what` being the place in this modality's config and what is wrong there."""
        if not condition:
            raise ConfigError(f"config.model.modalities.{self.name}{what}")

    # What a subclass says of its media. "Media" is a pytree of arrays with a leading batch dimension.

    @abc.abstractmethod
    def prepare(self, samples: Mapping[str, Any]) -> Any:
        """Stacked samples of a source to media, on the host."""

    @abc.abstractmethod
    def example(self, batch: int) -> Any:
        """Media of zeros, for shapes."""

    @abc.abstractmethod
    def encode_moments(self, params: Mapping, media: Any) -> tuple[Array, Array]:
        """Posterior mean and log-variance of the codec, in its own units, each [B, *latent]."""

    @abc.abstractmethod
    def decode(self, params: Mapping, latent: Array) -> Any:
        """Latent in the codec's own units to what `outputs` takes, on the device."""

    @abc.abstractmethod
    def reconstruction(
        self, params: Mapping, media: Any, latent: Array, key: jax.Array
    ) -> tuple[Array, dict[str, Array]]:
        """Codec's reconstruction loss per sample [B] and metrics, from a latent drawn of the posterior."""

    @abc.abstractmethod
    def embed(self, params: Mapping, media: Any, untruncated: bool = False) -> Array:
        """Prompt embedding C(x), unit norm [B, D]; `full` embeds the target itself where prompt and target differ."""

    @abc.abstractmethod
    def empty(self, batch: int) -> Any:
        """Media that says nothing (an empty caption, mid-grey), for the release's null prompt."""

    @abc.abstractmethod
    def postprocess(self, decoded: Any) -> list[Any]:
        """Decoded media on the host as a list of natural values (a string, an array of pixels, …)."""

    @abc.abstractmethod
    def read(self, argument: str) -> Any:
        """A prompt from the command line (a text, a file) as one natural value; raises ConfigError."""

    @abc.abstractmethod
    def write(self, value: Any, path: Path) -> None:
        """Writes one natural value to a file."""

    @abc.abstractmethod
    def preprocess(self, values: Sequence[Any]) -> Any:
        """Natural values to media, batched: the inverse of `outputs`."""

    @abc.abstractmethod
    def raw_from_batch(self, samples: Mapping[str, Any]) -> list[Any]:
        """Stacked samples of a source to natural values; of a caption that was truncated, the whole."""

    @abc.abstractmethod
    def html(self, value: Any) -> str:
        """One natural value as an element of a page, with its data inside."""

    def unknown(self, values: Sequence[Any]) -> str:
        """What in prompts this model does not know, in one line; empty if there is nothing."""
        return ""

    @property
    def value_format(self) -> dict[str, Any]:
        """Sizes and rates of the natural values that this model makes, by name; {} where nothing has one."""
        return {}

    def codec_input(self, media: Any) -> Any:
        """What the codec encodes of media, one array [B, ...] for all but text; the rest is for the prompt encoder."""
        return media

    # What follows from it.

    @property
    @abc.abstractmethod
    def initialisers(self) -> Mapping[str, Callable[[jax.Array], dict]]:
        """Role -> function of a key that makes that component's parameters; see `init` for those not named here."""

    def init(self, role: str, key: jax.Array) -> dict:
        """Parameters of one role. X is traced with environment tokens, or it would have none."""
        if role in self.initialisers:
            return self.initialisers[role](key)
        z = jnp.zeros((1, *self.latent_shape))
        if role == "environment":
            return self.environment.init(
                jax.random.fold_in(key, 1), z, jnp.zeros((1, 4 * self.denoiser_config.channels))
            )["params"]
        inputs = (z, jnp.zeros((1,), jnp.int32), Tokens.of(jnp.zeros((1, 1, self.dims.width))))
        if role == "denoiser":
            return self.denoiser.init(key, *inputs)["params"]["unet"]
        environment = Tokens.of(jnp.zeros((1, 1, self.dims.environment_width)))
        return self.denoiser.init(key, *inputs, environment, jnp.ones((1,)))["params"]["cross"]

    def component(self, variables: Variables, role: str) -> dict:
        """Parameters of a role; raises ConfigError if they have not been made."""
        name = self.components[role]
        if name not in variables["params"]:
            raise ConfigError(
                f"the {role} of {self.name} ({name}) is not there; the stage that trains it has to be run"
            )
        return variables["params"][name]

    def constants(self, variables: Variables, role: str) -> dict:
        return variables["constants"][self.components[role]]

    def default_constants(self) -> dict[str, dict[str, np.ndarray]]:
        """Constants before any statistics: latents and prompts as their networks make them."""
        shape = (self.latent_shape[-1],)
        return {
            self.components["codec"]: {"shift": np.zeros(shape, np.float32), "scale": np.ones(shape, np.float32)},
            self.components["prompt"]: {
                "centre": np.zeros((self.dims.width,), np.float32),
                "gain": np.ones((), np.float32),
            },
        }

    def encode(self, variables: Variables, media: Any) -> tuple[Array, Array]:
        """Mean and standard deviation of the latent's posterior, normalised; each [B, *latent]."""
        mean, logvar = self.encode_moments(self.component(variables, "codec"), media)
        constants = self.constants(variables, "codec")
        std = jnp.exp(0.5 * logvar) * self.sampled_posterior
        return (mean - constants["shift"]) * constants["scale"], std * constants["scale"]

    def denormalize(self, variables: Variables, z: Array) -> Array:
        """Normalised latent z in the codec's own units."""
        constants = self.constants(variables, "codec")
        return z / constants["scale"] + constants["shift"]

    def decode_latent(self, variables: Variables, z: Array) -> Any:
        """Normalised latent z to decoded media; by the codec alone, unless a modality has more components for it."""
        return self.decode(self.component(variables, "codec"), self.denormalize(variables, z))

    def prompt(self, variables: Variables, media: Any, untruncated: bool = False) -> Array:
        """Context token of a prompt, centred and scaled, [B, D]."""
        constants = self.constants(variables, "prompt")
        embedding = self.embed(self.component(variables, "prompt"), media, untruncated)
        return (embedding - constants["centre"]) * constants["gain"]

    def environment_tokens(self, variables: Variables, z: Array, t: Array) -> Array:
        """V(z_t, t): environment tokens [B, K, E]. The time embedding is the (frozen) denoiser's own."""
        emb = self.denoiser.apply(
            {"params": {"unet": self.component(variables, "denoiser")}}, t, method=lambda m, t: m.unet.embed_time(t)
        )
        return self.environment.apply({"params": self.component(variables, "environment")}, z, emb)

    def denoise(
        self,
        variables: Variables,
        z: Array,
        t: Array,
        context: Tokens,
        environment: Tokens | None = None,
        gate: Array | None = None,
    ) -> Array:
        """The denoiser's prediction at (z_t, t) given context and, gated per sample, the others' environment."""
        params = {"unet": self.component(variables, "denoiser")}
        if environment is not None:
            params["cross"] = self.component(variables, "cross")
        return self.denoiser.apply({"params": params}, z, t, context, environment, gate)
