"""Feature networks by name: each maps samples of some modalities to rows of numbers, which metrics compare.

    inception=FILE     Inception-v3 of FID, pt_inception-2015-12-05-6726825d.pth: images, and frames of videos
    vggish=FILE        VGGish, vggish-10086976.pth: audio
    …=DIR              either of them from a directory that `codi-jax convert` made of the file
    tower=MODEL        the prompt encoders of a CoDi model: a packaged model, a folder of `package`, or a workdir
    NAME:LABEL=…       a further network of one kind, such as tower:clap=out/clap

`inception=random` and `vggish=random` have random weights, `random:8` at an eighth of the widths: to try a command
without the weights. A module of a user adds a network by `codi_jax.register("network", NAME)`, of a function
(weights, settings) -> `FeatureNetwork`.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import jax
import numpy as np

from codi_jax.config import ConfigError
from codi_jax.evaluation.samples import Content
from codi_jax.evaluation.settings import Settings
from codi_jax.registry import Registry

RANDOM = "random"
Features = Mapping[str, Sequence[np.ndarray]]  # name -> of each sample a row [F], or several [rows, F]


class FeatureNetwork(Protocol):
    """A feature network.

    Attributes:
      modalities: that it reads.
      features: names of what it computes; the first one is what distributions are compared by.
      joint: whether rows of different modalities are compared with each other.
      identity: of its weights, such as sha256 of their file; begins with "random" if they are random.
      options: what else its features depend on, as JSON types.
    """

    @property
    def modalities(self) -> tuple[str, ...]: ...

    @property
    def features(self) -> tuple[str, ...]: ...

    @property
    def joint(self) -> bool: ...

    @property
    def identity(self) -> str: ...

    @property
    def options(self) -> Mapping[str, Any]: ...

    def read(self, modality: str, content: Content) -> Any:
        """Reads one sample on the host; called by several threads.

        Raises:
          ConfigError: it cannot be read.
        """
        ...

    def __call__(self, modality: str, inputs: Sequence[Any]) -> Features:
        """The features of a batch of what `read` returned; all batches of a modality have one size."""
        ...


class MakeNetwork(Protocol):
    """Opens a network by its weights. Raises ConfigError if they cannot be used."""

    def __call__(self, weights: str, settings: Settings, /) -> FeatureNetwork: ...


@dataclasses.dataclass(frozen=True)
class NamedNetwork:
    """A network of a measurement.

    Attributes:
      label: its name in the results.
      kind: its name in `NETWORKS`.
      network: the network.
    """

    label: str
    kind: str
    network: FeatureNetwork

    @property
    def random(self) -> bool:
        """Whether its weights are random."""
        return self.network.identity.startswith(RANDOM)

    def describe(self) -> dict[str, Any]:
        """What its features depend on, as JSON types."""
        return {"kind": self.kind, "weights": self.network.identity, **self.network.options}


NETWORKS: Registry[MakeNetwork] = Registry(
    "network",
    {name: f"codi_jax.evaluation.{name}" for name in ("inception", "vggish", "tower")},
)
register = NETWORKS.register


def parse_networks(text: str) -> dict[str, tuple[str, str]]:
    """Label -> (name, weights) of NAME=WEIGHTS,NAME:LABEL=WEIGHTS.

    Raises:
      ConfigError: another form, an unknown name, or two of one label.
    """
    out: dict[str, tuple[str, str]] = {}
    for part in filter(None, map(str.strip, text.split(","))):
        name, equals, weights = (x.strip() for x in part.partition("="))
        kind, _, label = name.partition(":")
        if not equals or not kind or not weights:
            raise ConfigError(f"networks: expected NAME=WEIGHTS, such as inception=FILE, got {part!r}")
        if kind not in NETWORKS:
            NETWORKS.find(kind)
        label = label or kind
        if not all(c.isalnum() or c in "-_" for c in label):
            raise ConfigError(f"networks: a label has letters, digits, - and _, got {label!r}")
        if label in out:
            raise ConfigError(f"networks: {label} is given twice; name one of them as {kind}:LABEL=WEIGHTS")
        out[label] = kind, weights
    return out


def open_networks(given: Mapping[str, tuple[str, str]], settings: Settings) -> dict[str, NamedNetwork]:
    """The networks by label.

    Args:
      given: from `parse_networks`.
      settings: of the measurement.

    Raises:
      ConfigError: weights cannot be used.
    """
    return {
        label: NamedNetwork(label, kind, NETWORKS.find(kind)(weights, settings))
        for label, (kind, weights) in given.items()
    }


def random_divisor(weights: str) -> int | None:
    """d of "random:d", 1 of "random"; None for the path of a file.

    Raises:
      ConfigError: d is no positive number.
    """
    name, _, divisor = weights.partition(":")
    if name != RANDOM:
        return None
    if divisor and not (divisor.isdecimal() and 1 <= int(divisor) <= 1024):
        raise ConfigError(f"networks: expected random, or random:8 for an eighth of the widths, got {weights!r}")
    return int(divisor or 1)


def random_parameters(shapes: Any, seed: int) -> Any:
    """Random parameters that keep the scale of activations: kernels N(0, 2 / inputs), norms that do nothing, no biases.

    Args:
      shapes: tree of shapes, whose leaves have the names of flax.
      seed: of the draws.
    """
    rng = np.random.default_rng([seed, 0])

    def draw(path: Any, leaf: jax.ShapeDtypeStruct) -> np.ndarray:
        name = path[-1].key
        if name == "kernel":
            std = np.sqrt(2 / np.prod(leaf.shape[:-1]))
            return (rng.standard_normal(leaf.shape, np.float32) * np.float32(std)).astype(leaf.dtype)
        return np.full(leaf.shape, name in ("scale", "var"), leaf.dtype)

    return jax.tree_util.tree_map_with_path(draw, shapes)


def in_chunks(function: Callable[[np.ndarray], Any], rows: np.ndarray, size: int) -> Any:
    """A function of rows [n, …], called with `size` rows at a time; the last chunk is padded by its last row."""
    parts = []
    for start in range(0, len(rows), size):
        chunk = rows[start : start + size]
        padded = np.concatenate([chunk, np.repeat(chunk[-1:], size - len(chunk), 0)])
        parts.append(jax.device_get(function(padded)))
    return jax.tree.map(lambda *leaves: np.concatenate(leaves)[: len(rows)], *parts)
