"""A waveform with its sample rate, and a player of it in HTML."""

import base64
import io
from typing import NamedTuple

import numpy as np

from codi_jax.media import files


class Audio(NamedTuple):
    """Mono audio; unpacks as `samples, rate = audio`, and shows itself in a notebook.

    Attributes:
      samples: float32 [L] in [-1, 1]; as a prompt also int16.
      rate: samples per second.
    """

    samples: np.ndarray
    rate: int

    def _repr_html_(self) -> str:
        samples = np.asarray(self.samples)
        return player(samples if samples.dtype == np.int16 else files.to_int16(samples), self.rate)


def player(samples: np.ndarray, rate: int) -> str:
    """An HTML player of int16 [L], with the samples as a WAV file inside."""
    file = io.BytesIO()
    files.write_wav(file, samples, rate)
    data = base64.b64encode(file.getvalue()).decode()
    return f'<audio class="audio" controls src="data:audio/wav;base64,{data}"></audio>'
