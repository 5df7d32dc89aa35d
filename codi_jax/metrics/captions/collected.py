"""Captions as a state of metrics that need all samples before the first score.

They are arrays of bytes, so that they travel between processes; their size is that of the text, about 0.3 KB for a
sample with five references. Merged in the order of the samples, the state is that of one process that has seen all.
"""

from typing import NamedTuple

import numpy as np

from codi_jax.config import ConfigError
from codi_jax.metrics.captions.samples import Captions, Sample, split


class CaptionBytes(NamedTuple):
    """Captions of n samples.

    Attributes:
      text: uint8 [bytes], UTF-8: of each sample the hypothesis, then its references, each ended by a line feed.
      references: int64 [n], the number of references.
    """

    text: np.ndarray
    references: np.ndarray


def empty() -> CaptionBytes:
    """The state of no samples."""
    return CaptionBytes(np.zeros(0, np.uint8), np.zeros(0, np.int64))


def merge(a: CaptionBytes, b: CaptionBytes) -> CaptionBytes:
    """The samples of a, then those of b."""
    return CaptionBytes(*(np.concatenate(pair) for pair in zip(a, b, strict=True)))


def collect(batch: Captions) -> CaptionBytes:
    """The state of a batch.

    Raises:
      ConfigError: see `samples.split`.
    """
    samples = split(batch)
    text = "".join(" ".join(tokens) + "\n" for h, references in samples for tokens in (h, *references))
    encoded = np.frombuffer(text.encode("utf-8", "surrogatepass"), np.uint8)
    return CaptionBytes(encoded, np.array([len(s.references) for s in samples], np.int64))


def samples_of(state: CaptionBytes) -> list[Sample]:
    """The samples of a state.

    Raises:
      ConfigError: there are none.
    """
    if not len(state.references):
        raise ConfigError("no captions to score")
    captions = [line.split() for line in state.text.tobytes().decode("utf-8", "surrogatepass").split("\n")]
    samples, start = [], 0
    for number in state.references.tolist():
        samples.append(Sample(captions[start], captions[start + 1 : start + 1 + number]))
        start += 1 + number
    return samples


class CollectingMetric:
    """The state of a metric that needs all captions before its first score: `Metric` without `compute`."""

    def init(self) -> CaptionBytes:
        return empty()

    def update(self, state: CaptionBytes, batch: Captions) -> CaptionBytes:
        return merge(state, collect(batch))

    def merge(self, a: CaptionBytes, b: CaptionBytes) -> CaptionBytes:
        return merge(a, b)
