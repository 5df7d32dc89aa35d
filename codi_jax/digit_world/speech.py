"""Spoken digits: 800 fixed utterances by 40 synthetic speakers, 20 with low and 20 with high voices.

`make_speech.py` made the file once; nothing is synthesized at run time. Samples are stored as one byte in μ-law

    code = 128 + round(127 sgn(x) ln(1 + μ|x|) / ln(1 + μ)),    μ = 255

with a signal-to-noise ratio of at least 35 dB, for loud and soft words. The splits of the speakers are fixed, as those
of the glyphs: the judge and test splits share no speaker with the training data.
"""

import dataclasses
import functools
from pathlib import Path

import numpy as np

from codi_jax.config import ConfigError
from codi_jax.digit_world.draws import choose
from codi_jax.digit_world.glyphs import Split

RATE = 8000  # samples per second
LONGEST = 5600  # maximum length of an utterance in samples: 0.7 s
SPEAKERS = 20  # of each voice
TAKES = 2  # of each word by each speaker
SPLITS: dict[str, range] = {  # split -> its speakers of each voice
    "train": range(0, 10),
    "judge": range(10, 15),
    "val": range(15, 17),
    "test": range(17, 20),
}

PATH = Path(__file__).with_name("speech.npz")
_SHAPE = (2, SPEAKERS, TAKES, 10)  # voice, speaker, take, digit: the order of the utterances
_MU = 255


def compress(wave: np.ndarray) -> np.ndarray:
    """Encodes a waveform in [-1, 1] to μ-law codes, uint8 in 1 to 255 of the same shape; 128 is zero."""
    size = np.log1p(_MU * np.abs(wave)) / np.log1p(_MU)
    return (128 + np.rint(127 * np.sign(wave) * size)).astype(np.uint8)


def expand(codes: np.ndarray) -> np.ndarray:
    """Decodes μ-law codes in 1 to 255 to a waveform, float32 in [-1, 1]."""
    levels = (np.arange(256) - 128) / 127
    table = np.sign(levels) * np.expm1(np.abs(levels) * np.log1p(_MU)) / _MU
    return table.astype(np.float32)[codes]


@dataclasses.dataclass(frozen=True)
class Speech:
    """The utterances, concatenated.

    Attributes:
      samples: float32 [total] in [-1, 1], 8 kHz; every utterance is trimmed of silence and has peak 1.
      offsets: int64 [801]; utterance i is samples[offsets[i] : offsets[i + 1]].
      level: float32 [800], the root mean square of each utterance.
      digit, voice, speaker, take: int64 [800]; voice is 0 for low and 1 for high, speaker counts all 40.
    """

    samples: np.ndarray
    offsets: np.ndarray
    level: np.ndarray
    digit: np.ndarray
    voice: np.ndarray
    speaker: np.ndarray
    take: np.ndarray


def labels() -> dict[str, np.ndarray]:
    """Digit, voice, speaker and take of the utterances in order, int64 [800] each."""
    voice, speaker, take, digit = (x.ravel() for x in np.indices(_SHAPE))
    return {"digit": digit, "voice": voice, "speaker": voice * SPEAKERS + speaker, "take": take}


def load(path: Path) -> Speech:
    """Reads and checks a file of utterances.

    Raises:
      ConfigError: the file is missing, damaged, or not written by `make_speech.py`.
    """
    try:
        with path.open("rb") as stream:
            file = np.load(stream, allow_pickle=False)
            return _checked({name: file[name] for name in file.files})
    except Exception as error:  # zipfile, zlib and numpy raise many types for damaged bytes
        raise ConfigError(f"{path}: not the utterances of digit_world ({error}): reinstall codi_jax") from error


def _checked(arrays: dict[str, np.ndarray]) -> Speech:
    samples, offsets = arrays["samples"], arrays["offsets"]
    if samples.dtype != np.uint8 or samples.ndim != 1 or (samples == 0).any():
        raise ValueError("samples are not μ-law codes")
    expected = labels()
    if wrong := [name for name, values in expected.items() if not np.array_equal(arrays[name], values)]:
        raise ValueError(f"unexpected {', '.join(wrong)}")
    if offsets.shape != (np.prod(_SHAPE) + 1,) or offsets.dtype.kind not in "iu":
        raise ValueError("offsets have the wrong number of utterances")
    offsets = offsets.astype(np.int64)
    if offsets[0] != 0 or offsets[-1] != len(samples):
        raise ValueError("offsets do not span the samples")
    length = np.diff(offsets)
    if length.min() < 1 or length.max() > LONGEST:
        raise ValueError(f"utterances have {length.min()} to {length.max()} samples")
    wave = expand(samples)
    level = np.sqrt(np.add.reduceat(wave**2, offsets[:-1]) / length).astype(np.float32)
    for array in (wave, offsets, level, *expected.values()):
        array.flags.writeable = False
    return Speech(wave, offsets, level, **expected)


@functools.lru_cache(maxsize=1)
def speech() -> Speech:
    """The packaged utterances. Raises ConfigError if the file is missing or damaged."""
    return load(PATH)


def utterance_index(split: Split, digit: np.ndarray, voice: np.ndarray, u: np.ndarray) -> np.ndarray:
    """Picks an utterance [N] of a split's speakers, by a digit [N], a voice [N] and a uniform number [N]."""
    speakers = SPLITS[split]
    speaker, take = np.divmod(choose(u, len(speakers) * TAKES), TAKES)
    return np.ravel_multi_index((voice, speakers.start + speaker, take, digit), _SHAPE)
