"""The outputs whose diversity and memorisation are measured, and the space in which samples are compared.

Outputs are generated from captions (in wordings unseen in training), alone from the null prompt, and all together from
the null prompt. Images and videos are compared by their pixels in [0, 1], audio by its log-mel spectrogram.
"""

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np

from codi_jax.digit_world import LEADING
from codi_jax.digit_world.speech import RATE
from codi_jax.media.mel import MelConfig, filterbank, magnitudes

CLASSES = LEADING  # the factor that classes are the values of
SPECTROGRAM = MelConfig(sample_rate=RATE, n_fft=512, hop=128, mels=64, fmin=50.0, fmax=4000.0)


class GeneratedValues(NamedTuple):
    """Generated values of one modality.

    Attributes:
      title: "A->B", "independent", or the set of outputs that it was generated in.
      modality: its modality.
      values: raw values [n, ...].
      classes: int [n], the digit read from each, -1 where unread.
    """

    title: str
    modality: str
    values: np.ndarray
    classes: np.ndarray


def outputs(samples: Mapping[str, Any]) -> Iterator[GeneratedValues]:
    """The outputs of an evaluation, those of samples.npz as nested dicts (see `benchmark.run`)."""
    for title, cell in samples.get("matrix", {}).items():
        source, modality = title.split("->")
        if source == "text" != modality:
            yield GeneratedValues(title, modality, cell["values"], cell["read"][CLASSES])
    sets = {"independent": samples.get("independent", {}), **samples.get("joint", {})}
    for title in dict.fromkeys(("independent", max(sets, key=lambda title: title.count("+")))):
        for modality, values in sets[title].get("values", {}).items():
            yield GeneratedValues(title, modality, values, sets[title]["read"][modality][CLASSES])


def flat(values: np.ndarray) -> np.ndarray:
    """Raw values, uint8 pixels [n, ...] or int16 waveforms [n, L], as float32 vectors [n, F] to be compared."""
    if values.dtype == np.uint8:
        return values.reshape(len(values), -1).astype(np.float32) / 255
    power = magnitudes(values.astype(np.float32) / 2**15, SPECTROGRAM)
    mel = power.reshape(-1, SPECTROGRAM.bins) @ filterbank(SPECTROGRAM).T.astype(np.float32)
    return np.log(np.maximum(mel, np.float32(SPECTROGRAM.floor))).reshape(len(values), -1)


def or_none(value: float) -> float | None:
    """A number for metrics.json, which has null where there is none."""
    return float(value) if np.isfinite(value) else None
