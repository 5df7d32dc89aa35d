"""Diversity within a class: whether samples of one class differ from each other as much as real ones do.

The root mean square distance between two samples x_i ≠ x_j of class c follows from their scatter around its mean,

    D²(c) = mean_{i≠j} ‖x_i - x_j‖² = 2 / (n_c - 1) · Σ_i ‖x_i - μ_c‖²

so that no pair is computed, and the state merges exactly (`metrics.frechet`). Over the classes in which both the
generated and the real samples have at least two,

    diversity = mean_c D_generated(c) / mean_c D_real(c)       1 as diverse as real samples, 0 if a class is one sample

The distance is that of the space the samples are given in. In a space of pixels noise is diverse, too, so read it with
a measure of quality. Of captions, which have no distance here, it is the share of distinct ones (`distinct_share`).
"""

import dataclasses
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np


class ClassMoments(NamedTuple):
    """Moments of the samples of K classes, float64.

    Attributes:
      number: n_c, [K].
      mean: μ_c, [K, F].
      scatter: Σ_i ‖x_i - μ_c‖², [K].
    """

    number: np.ndarray
    mean: np.ndarray
    scatter: np.ndarray


def distances(of: ClassMoments) -> np.ndarray:
    """D(c), float64 [K]; NaN for a class with fewer than two samples."""
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(of.number > 1, np.sqrt(2 * of.scatter / (of.number - 1)), np.nan)


@dataclasses.dataclass(frozen=True)
class WithinClassDiversity:
    """Metric {"diversity", "distance", "reference_distance", "classes"} of batches (samples [n, F], classes [n]).

    A sample of class -1 is left out. The distances are the mean of D(c) over the classes that are compared, whose
    number is `classes`; all but that are NaN if there is none.

    Attributes:
      reference: moments of the real samples, a state of this metric (`moments`).
    """

    reference: ClassMoments

    def init(self) -> ClassMoments:
        return ClassMoments(*(np.zeros_like(x) for x in self.reference))

    def update(self, state: ClassMoments, batch: tuple[np.ndarray, np.ndarray]) -> ClassMoments:
        return self.merge(state, moments(*batch, *self.reference.mean.shape))

    def merge(self, a: ClassMoments, b: ClassMoments) -> ClassMoments:
        number, delta = a.number + b.number, b.mean - a.mean
        share = b.number / np.maximum(number, 1)
        scatter = a.scatter + b.scatter + np.square(delta).sum(-1) * a.number * share
        return ClassMoments(number, a.mean + delta * share[:, None], scatter)

    def compute(self, state: ClassMoments) -> dict[str, float]:
        generated, real = distances(state), distances(self.reference)
        both = np.isfinite(generated) & np.isfinite(real)
        if not both.any():
            return {"diversity": np.nan, "distance": np.nan, "reference_distance": np.nan, "classes": 0.0}
        distance, reference = float(generated[both].mean()), float(real[both].mean())
        return {
            "diversity": distance / reference if reference else np.nan,
            "distance": distance,
            "reference_distance": reference,
            "classes": float(both.sum()),
        }


def moments(samples: np.ndarray, classes: np.ndarray, count: int, size: int) -> ClassMoments:
    """The moments of samples.

    Args:
      samples: [n, F].
      classes: int [n], the class of each sample, or -1 to leave it out.
      count: K, the number of classes.
      size: F.

    Raises:
      ValueError: another shape, or a class that is not below K.
    """
    samples, classes = np.asarray(samples), np.asarray(classes)
    if samples.ndim != 2 or samples.shape != (len(classes), size):
        raise ValueError(f"expected samples [{len(classes)}, {size}], got shape {samples.shape}")
    if classes.max(initial=-1) >= count or classes.min(initial=0) < -1:
        raise ValueError(f"classes {classes.min()} to {classes.max()} of {count} classes, 0 to {count - 1}")
    out = ClassMoments(np.zeros(count), np.zeros((count, size)), np.zeros(count))
    for c in np.unique(classes[classes >= 0]):
        x = samples[classes == c].astype(np.float64)
        out.number[c], out.mean[c] = len(x), x.mean(0)
        out.scatter[c] = np.square(x - out.mean[c]).sum()
    return out


def distinct_share(captions: Sequence[str] | np.ndarray, classes: np.ndarray) -> float:
    """The share of distinct captions within a class, the mean over the classes that have at least two.

    It falls with the number of captions of a class, so compare equal numbers.

    Args:
      captions: [n].
      classes: int [n], or -1 to leave a caption out.

    Returns:
      The share; NaN if no class has two captions.
    """
    groups = [np.asarray(captions)[np.asarray(classes) == c] for c in np.unique(classes) if c >= 0]
    shares = [len(np.unique(group)) / len(group) for group in groups if len(group) > 1]
    return float(np.mean(shares)) if shares else float("nan")
