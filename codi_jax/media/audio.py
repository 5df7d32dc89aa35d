"""A waveform with its sample rate, its beginning at another one, and a player of it in HTML."""

import io
from typing import NamedTuple

import numpy as np

from codi_jax.media import files
from codi_jax.media.data_url import data_url


class Audio(NamedTuple):
    """Mono audio; unpacks as `samples, rate = audio`, and shows itself in a notebook.

    Attributes:
      samples: float32 [L] in [-1, 1]; as a prompt also int16; in a record also other integers, and [L, C].
      rate: samples per second.
    """

    samples: np.ndarray
    rate: int

    def _repr_html_(self) -> str:
        samples = np.asarray(self.samples)
        return player(samples if samples.dtype == np.int16 else files.to_int16(samples), self.rate)


def beginning(audio: Audio, samples: int, rate: int) -> np.ndarray:
    """What `samples` at `rate` are made of, as float32 [L], the mean of channels.

    Integers have the full scale of int8, int16 or int32 if they are of that type, and of int16 if they are of int64, as
    in TensorFlow Datasets.
    """
    values = np.asarray(audio.samples)[: files.length_to_read(samples, audio.rate, rate)]
    wave = values.astype(np.float32)
    if values.dtype.kind != "f":
        wave /= 2.0 ** (8 * values.dtype.itemsize - 1) if values.dtype.itemsize in (1, 4) else files.FULL
    return wave if wave.ndim == 1 else wave.mean(1)


def player(samples: np.ndarray, rate: int) -> str:
    """An HTML player of int16 [L], with the samples as a WAV file inside."""
    file = io.BytesIO()
    files.write_wav(file, samples, rate)
    return f'<audio class="audio" controls src="{data_url("audio/wav", file.getvalue())}"></audio>'
