"""What metrics ask for: both folders, the networks, and features of either, computed when they are first needed."""

import dataclasses
import functools
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from codi_jax.config import ConfigError
from codi_jax.evaluation.features import Contents, FeatureRows, compute_features
from codi_jax.evaluation.motion import SYNCHRONY, MotionFeatures
from codi_jax.evaluation.networks import NamedNetwork
from codi_jax.evaluation.samples import Samples
from codi_jax.evaluation.settings import Settings
from codi_jax.metrics.synchrony import Strengths
from codi_jax.progress import ProgressFn

SAMPLES, REAL = "samples", "real"


@dataclasses.dataclass(frozen=True, eq=False)
class Study:
    """A measurement.

    Attributes:
      samples: what is measured.
      real: real samples or references; None for none.
      networks: by label.
      settings: of the measurement.
      out: folder of the results.
      progress: callback.
      shared: folder of the features of real samples, which several measurements share; None for the folder of results.
    """

    samples: Samples
    real: Samples | None
    networks: Mapping[str, NamedNetwork]
    settings: Settings
    out: Path
    progress: ProgressFn
    shared: Path | None = None

    def has(self, modality: str) -> bool:
        """Whether the samples have a modality."""
        return modality in self.samples.modalities

    def both(self, modality: str) -> bool:
        """Whether samples and real samples have a modality."""
        return self.has(modality) and self.real is not None and modality in self.real.modalities

    def counts(self) -> tuple[int, int]:
        """Number of samples, and of real ones."""
        return len(self.samples), 0 if self.real is None else len(self.real)

    def side(self, name: str) -> Samples:
        """The samples, or the real ones."""
        found = self.samples if name == SAMPLES else self.real
        assert found is not None  # what needs real samples applies only where they are
        return found

    def partner(self, modality: str) -> str | None:
        """The side that has this modality for every key of the samples; None if neither has.

        Raises:
          ConfigError: the real side has it for some of the keys only.
        """
        if self.has(modality):
            return SAMPLES
        if self.real is None or modality not in self.real.modalities:
            return None
        return REAL if self.matched(modality) else None

    def matched(self, modality: str) -> bool:
        """Whether the real side has this modality for every key of the samples; False if for none.

        Raises:
          ConfigError: it has it for some of them.
        """
        assert self.real is not None
        known = set(self.real.keys)
        missing = [key for key in self.samples.keys if key not in known]
        if missing and len(missing) < len(self.samples):
            raise ConfigError(
                f"{self.real.path}: no {modality} for sample {missing[0]} of {self.samples.path}, and {len(missing)} "
                f"of {len(self.samples)} in all; add them, or leave out by --metrics what compares samples of one name"
            )
        return not missing

    @functools.cached_property
    def _computed(self) -> dict[tuple[str, str, str], FeatureRows]:
        return {}

    def features(self, side: str, label: str, modality: str) -> FeatureRows:
        """Features of the samples of a side, in the order of its keys; of partners in the order of the samples'."""
        if (key := (side, label, modality)) not in self._computed:
            self._computed[key] = self._compute(side, label, modality)
        return self._computed[key]

    def _compute(self, side: str, label: str, modality: str) -> FeatureRows:
        of, named, settings = self.side(side), self.networks[label], self.settings
        made_of = {"files": of.identity(modality, of.keys), "modality": modality, "network": named.describe()}
        size = max(1, settings.batch_size // settings.frames) if modality == "video" else settings.batch_size

        def content(key: str) -> object:
            # Of several references the first stands for a sample.
            return of.captions(key)[0] if modality == "text" and side == REAL else of.content(modality, key)

        folder = self.out / "features" / f"{side}.{label}.{modality}"
        if side == REAL and self.shared is not None:
            digest = hashlib.sha256(json.dumps(made_of, sort_keys=True).encode()).hexdigest()
            folder = self.shared / f"{label}.{modality}.{digest[:16]}"
        return compute_features(
            folder,
            named.network,
            modality,
            Contents(of.keys, content),
            made_of,
            size,
            self.progress,
            f"{label}: {modality} of {of.path}",
        )

    def embeddings(self, side: str, label: str, modality: str) -> np.ndarray:
        """One row for every sample, float32 [n, F], in the order of the samples' keys."""
        network = self.networks[label].network
        rows = self.features(side, label, modality).means(network.features[0])
        of = self.side(side)
        if of is self.samples:
            return rows
        at = {key: i for i, key in enumerate(of.keys)}
        return rows[[at[key] for key in self.samples.keys]]

    @functools.cached_property
    def motion(self) -> MotionFeatures:
        """How the motion and the onsets of the samples are measured."""
        contents = [[self.samples.content(name, key) for name in SYNCHRONY] for key in self.samples.keys]
        return MotionFeatures.of_samples(contents, self.settings.seconds)

    def strengths(self) -> Strengths:
        """Motion and onsets of the samples."""
        of, motion, name = self.samples, self.motion, "+".join(SYNCHRONY)
        made_of = {
            "files": [of.identity(modality, of.keys) for modality in SYNCHRONY],
            "modality": name,
            "network": {"kind": "motion", **motion.options},
        }
        rows = compute_features(
            self.out / "features" / f"{SAMPLES}.motion.{name}",
            motion,
            name,
            Contents(of.keys, lambda key: [of.content(modality, key) for modality in SYNCHRONY]),
            made_of,
            max(1, self.settings.batch_size // 4),
            self.progress,
            f"motion and onsets of {of.path}",
        )
        return Strengths(*(rows.values[part] for part in motion.features))
