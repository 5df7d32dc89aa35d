"""SIM, the cosine similarity of outputs in a contrastive embedding space (the paper's coherence, section 5.2).

    sim(A, B) = mean_i cos(T_A(a_i), T_B(b_i))

The towers T are prompt encoders with separate weights, frozen, from a packaged model (`codi_jax.packaged`). A stage
with objective `similarity` trained them on samples that no generator was trained on, on all pairs of modalities,

    L = mean_{A < B} InfoNCE(T_A, T_B)                                              at a fixed temperature

plus InfoNCE between two wordings of a caption, without which the text tower learns only what images show.

The cosine of unrelated samples is not zero (embeddings of different modalities keep a gap): compare `joint` with
`shuffled`.
"""

from collections.abc import Mapping, Sequence
from functools import partial
from itertools import combinations
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from codi_jax.codi import CoDi
from codi_jax.config import ConfigError, config_class
from codi_jax.digit_world.benchmark.samples import in_batches
from codi_jax.objectives.bridging import infonce
from codi_jax.packaged import Package
from codi_jax.rng import fold


@config_class()
class SimilarityConfig:
    """temperature: of the contrastive loss, positive; views: see `objectives.bridging.BridgingConfig`."""

    temperature: float = 0.1
    views: tuple[str, ...] = ()

    def __post_init__(self):
        if self.temperature <= 0:
            raise ConfigError(f"temperature: {self.temperature} is not positive")


def component(modality: str) -> str:
    """Component name of the tower of a modality."""
    return f"{modality}_similarity"


def init(codi: CoDi, key: jax.Array, names: Sequence[str]) -> dict[str, Any]:
    """Initialises the named components; parameters of one path and shape start equal in all, as in `CoDi.init`."""
    modality = {component(name): name for name in codi.modalities}
    return {c: codi[modality[c]].init("prompt", fold(key, "prompt")) for c in names}


def embed(codi: CoDi, params: Mapping[str, Any], media: Mapping[str, Any]) -> dict[str, jax.Array]:
    """Unit-norm embeddings [B, D] by modality."""
    return {name: codi[name].embed(params[component(name)], x, untruncated=True) for name, x in media.items()}


def loss(
    codi: CoDi, config: SimilarityConfig, variables: Mapping, batch: Mapping[str, Any], key: jax.Array
) -> tuple[jax.Array, dict[str, jax.Array]]:
    """The contrastive loss of a batch of corresponding media, and the retrieval accuracy in the batch by pair."""
    del key
    embedded = embed(codi, variables["params"], batch)
    scale = jnp.float32(1 / config.temperature)
    total, metrics = 0.0, {}
    pairs = list(combinations(embedded, 2))
    for name, other in pairs:
        a, b = embedded[name], embedded[other]
        total += infonce(a, b, scale) / len(pairs)
        metrics[f"retrieval/{name}+{other}"] = ((a @ b.T).argmax(-1) == jnp.arange(len(a))).mean()
    for name in config.views:
        total += infonce(embedded[name], codi[name].embed(variables["params"][component(name)], batch[name]), scale)
    return jnp.asarray(total), metrics


class Similarity:
    """Embeds raw values in batches of one size, so that one compiled program per modality serves all."""

    def __init__(self, codi: CoDi, params: Mapping[str, Any], batch: int):
        self._codi, self._batch = codi, batch
        self._params = {name: params[component(name)] for name in codi.modalities}
        self._programs = {
            name: jax.jit(lambda params, media, name=name: codi[name].embed(params, media, untruncated=True))
            for name in codi.modalities
        }

    def __call__(self, values: Mapping[str, Sequence[Any]]) -> dict[str, np.ndarray]:
        """Unit-norm embeddings [n, D] by modality."""
        return {
            name: in_batches(self._codi[name], raw, self._batch, partial(self._programs[name], self._params[name]))
            for name, raw in values.items()
        }


def from_package(codi: CoDi, package: Package, batch: int) -> Similarity | None:
    """The towers of a package for the modalities of a model; None if one of them has no tower."""
    if not set(codi.modalities) <= set(package.judging.modalities):
        return None
    return Similarity(package.judging, package.read("similarity")["params"], batch)


def sim(embeddings: Sequence[np.ndarray]) -> float:
    """Mean cosine over samples and pairs of modalities, of unit-norm embeddings [n, D] each."""
    return float(np.mean([np.einsum("nd,nd->n", a, b).mean() for a, b in combinations(embeddings, 2)]))


def coherence(together: Mapping[str, np.ndarray], alone: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """SIM of one set of outputs.

    Args:
      together: output -> embeddings [n, D] when generated jointly with the others.
      alone: output -> embeddings [n, D] when generated separately.

    Returns:
      {"n", "joint", "independent", "shuffled"}; shuffled pairs the joint outputs of different samples.
    """
    joint = list(together.values())
    return {
        "n": len(joint[0]),
        "joint": sim(joint),
        "independent": sim([alone[name] for name in together]),
        "shuffled": sim([np.roll(e, shift, axis=0) for shift, e in enumerate(joint)]),
    }
