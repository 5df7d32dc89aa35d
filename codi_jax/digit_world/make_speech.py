"""Makes speech.npz: eSpeak NG speaks the ten digit words in forty voices.

    pip install espeakng-loader==0.2.4 soxr==1.1.0
    python -m codi_jax.digit_world.make_speech --out FILE

The engine is not bit-reproducible and is licensed under the GPL; therefore its output is stored in a file, and it is
not a dependency. A speaker is one of its voice variants (the shape of the formants) with our own pitch, speech rate and
size σ: playing speech σ times faster multiplies pitch and formants by σ, like a smaller person's voice. A variant used
for a low and a high voice has the same index in both tables, and the index determines the split (`speech.SPLITS`), so
that no variant is in two splits. A pretrained recognizer (Whisper tiny.en, restricted to the ten words) recognizes at
least 18 of each speaker's 20 utterances; most variants failed this test.
"""

import argparse
import ctypes
import importlib
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from codi_jax.digit_world.factors import DIGITS
from codi_jax.digit_world.speech import LONGEST, RATE, TAKES, compress, labels

LOWEST_HIGH, HIGHEST_LOW = 190.0, 120.0  # Hz: bounds of the median pitch of high and of low speakers
SILENCE = 10 ** (-35 / 20)  # relative to the loudest frame
FRAME = 80  # samples, 10 ms
TAKE = ((1.0, 0), (1.04, 12))  # per take: factor of the speaker's pitch, increment of the rate


class Speaker(NamedTuple):
    """A variant of the engine's English voice, and its parameters.

    Attributes:
      variant: name of the variant; "" for the voice without a variant.
      pitch: in Hz, before σ; the measured pitch is about 13 % higher.
      rate: words per minute, before σ.
      size: σ.
    """

    variant: str
    pitch: float
    rate: int
    size: float = 1.0


LOW = (
    # train
    Speaker("adam", 82, 150),
    Speaker("edward", 94, 160),
    Speaker("", 76, 155),
    Speaker("m6", 90, 150, 0.96),
    Speaker("Henrique", 97, 155),
    Speaker("john", 94, 155, 1.03),
    Speaker("m4", 84, 150),
    Speaker("m1", 88, 160, 0.97),
    Speaker("sandro", 93, 150, 1.03),
    Speaker("pedro", 80, 135),
    # judge
    Speaker("m5", 88, 155, 0.97),
    Speaker("antonio", 78, 135),
    Speaker("Reed", 84, 150, 1.03),
    Speaker("Alex", 92, 145),
    Speaker("victor", 95, 155),
    # val
    Speaker("m3", 78, 150),
    Speaker("m8", 92, 155),
    # test
    Speaker("Storm", 80, 150),
    Speaker("paul", 86, 150),
    Speaker("miguel", 94, 155),
)
HIGH = (
    # train
    Speaker("adam", 169, 140, 1.06),
    Speaker("edward", 179, 145, 1.06),
    Speaker("f1", 200, 155),
    Speaker("m6", 175, 140, 1.14),
    Speaker("Henrique", 157, 145, 1.14),
    Speaker("belinda", 190, 155),
    Speaker("m4", 157, 150, 1.14),
    Speaker("f3", 179, 155),
    Speaker("sandro", 157, 145, 1.14),
    Speaker("Diogo", 185, 145, 1.12),
    # judge
    Speaker("m5", 199, 150, 1.06),
    Speaker("f2", 206, 155),
    Speaker("Reed", 179, 140, 1.06),
    Speaker("Denis", 157, 145, 1.14),
    Speaker("victor", 185, 145, 1.14),
    # val
    Speaker("f4", 190, 155),
    Speaker("m8", 185, 145, 1.14),
    # test
    Speaker("Storm", 175, 142, 1.08),
    Speaker("aunty", 205, 155),
    Speaker("miguel", 166, 150, 1.14),
)


class Engine:
    """eSpeak NG through ctypes, with a copy of its data under `folder` to which a voice is added."""

    def __init__(self, folder: Path):
        espeakng_loader = importlib.import_module("espeakng_loader")  # needed for this alone

        data = folder / "espeak-ng-data"
        shutil.copytree(espeakng_loader.get_data_path(), data)
        self._variants = (data / "voices" / "!v").rename(folder / "variants")  # the engine supports at most 350 voices
        self._voice = data / "voices" / "!v" / "own"
        self._voice.parent.mkdir()
        self._library = ctypes.CDLL(espeakng_loader.get_library_path())
        self._library.espeak_Synth.argtypes = (
            *(ctypes.c_char_p, ctypes.c_size_t, ctypes.c_uint, ctypes.c_int, ctypes.c_uint, ctypes.c_uint),
            *(ctypes.c_void_p, ctypes.c_void_p),
        )
        retrieval = 1
        self._rate = self._library.espeak_Initialize(retrieval, 0, str(data).encode(), 0)
        self._chunks: list[np.ndarray] = []

        @ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.c_void_p)
        def callback(wave, count, _):
            if wave and count:
                self._chunks.append(np.ctypeslib.as_array(wave, (count,)).copy())
            return 0

        self._callback = callback  # the library keeps no reference
        self._library.espeak_SetSynthCallback(callback)

    def say(self, words: Sequence[str], speaker: Speaker) -> list[np.ndarray]:
        """Synthesizes the words: float32 waveforms at 8 kHz, including silence."""
        soxr = importlib.import_module("soxr")  # needed for this alone

        lines = ["language variant"]
        if speaker.variant:
            lines = (self._variants / speaker.variant).read_text(encoding="latin1").splitlines()
        kept = [line for line in lines if line.split()[:1] not in (["name"], ["pitch"])]
        voice = [*kept, "name own", f"pitch {speaker.pitch:.0f} {1.4 * speaker.pitch:.0f}", ""]
        self._voice.write_text("\n".join(voice), encoding="latin1")
        rate_parameter, utf8, out = 1, 1, []
        for name in (b"de", b"en+own"):  # switch away first: a voice in use is not reloaded
            if self._library.espeak_SetVoiceByName(name):
                raise SystemExit(f"eSpeak NG cannot load {speaker}")
        self._library.espeak_SetParameter(rate_parameter, speaker.rate, 0)
        for word in words:
            self._chunks.clear()
            if self._library.espeak_Synth(word.encode(), len(word.encode()) + 1, 0, 1, 0, utf8, None, None):
                raise SystemExit(f"eSpeak NG cannot synthesize {word}")
            self._library.espeak_Synchronize()
            wave = np.concatenate(self._chunks).astype(np.float32) / 2**15
            out.append(soxr.resample(wave, self._rate * speaker.size, RATE, quality="VHQ"))
        return out


def trim(wave: np.ndarray) -> np.ndarray:
    """Trims silence at both ends, fades in and out over 5 ms, and scales the peak to 1."""
    frames = wave[: len(wave) // FRAME * FRAME].reshape(-1, FRAME)
    level = np.sqrt((frames**2).mean(1))
    (loud,) = np.nonzero(level > SILENCE * level.max())
    out = wave[max(loud[0] - 1, 0) * FRAME : (loud[-1] + 2) * FRAME].copy()
    ramp = np.linspace(0, 1, FRAME // 2, dtype=np.float32)
    out[: len(ramp)] *= ramp
    out[-len(ramp) :] *= ramp[::-1]
    return out / np.abs(out).max()


def pitch_of(wave: np.ndarray, lowest: float = 60, highest: float = 400) -> float:
    """The median pitch of a waveform at 8 kHz, in Hz, by autocorrelation; nan if no frame is voiced.

    In every frame of 50 ms that is loud enough, the period is the first peak of the autocorrelation close to the
    highest one, since the highest may be at twice the period.
    """
    size, padded = 400, 1024
    frames = np.lib.stride_tricks.sliding_window_view(wave, size)[::FRAME]
    level = np.sqrt((frames**2).mean(1))
    frames = frames[level > 0.2 * level.max()]
    window = np.hanning(size)

    def correlation(x: np.ndarray) -> np.ndarray:
        r = np.fft.irfft(np.abs(np.fft.rfft(x * window, padded)) ** 2)[:, : size // 2]
        return r / np.maximum(r[:, :1], 1e-12)

    r = correlation(frames - frames.mean(1, keepdims=True)) / correlation(np.ones((1, size)))
    first, last = int(RATE / highest), int(RATE / lowest)
    middle, before, after = r[:, first : last + 1], r[:, first - 1 : last], r[:, first + 1 : last + 2]
    top = middle.max(1, keepdims=True)
    peak = (middle >= before) & (middle >= after) & (middle > 0.88 * top)
    voiced = (top[:, 0] > 0.5) & peak.any(1)
    return float(np.median(RATE / (first + peak[voiced].argmax(1)))) if voiced.any() else float("nan")


def utter(engine: Engine, speaker: Speaker) -> list[np.ndarray]:
    """All takes of all words by a speaker, trimmed."""
    takes = [speaker._replace(pitch=speaker.pitch * pitch, rate=speaker.rate + rate) for pitch, rate in TAKE]
    return [trim(wave) for take in takes for wave in engine.say(DIGITS, take)]


def check(voice: str, speaker: Speaker, waves: list[np.ndarray]) -> None:
    """Prints a speaker's pitch and durations. Raises SystemExit if they are out of bounds."""
    pitches, seconds = [pitch_of(wave) for wave in waves], [len(wave) / RATE for wave in waves]
    median = np.nanmedian(pitches)
    print(
        f"{voice:4} {speaker.variant or 'en':10}"
        f" {median:4.0f} Hz ({np.nanmin(pitches):3.0f} to {np.nanmax(pitches):3.0f})"
        f"  {np.mean(seconds):.2f} s (at most {max(seconds):.2f} s)"
    )
    if max(seconds) > LONGEST / RATE or (median > HIGHEST_LOW if voice == "low" else median < LOWEST_HIGH):
        raise SystemExit(f"{speaker} is too slow, or does not have a {voice} voice")


def main(argv: list[str] | None = None) -> None:
    """Writes the file and prints a table of the speakers' pitch and duration."""
    parser = argparse.ArgumentParser(description="Make the utterances of digit_world.")
    parser.add_argument("--out", type=Path, required=True, help="the .npz file to write")
    arguments = parser.parse_args(argv)
    waves = []
    with tempfile.TemporaryDirectory() as folder:
        engine = Engine(Path(folder))
        for voice, speakers in (("low", LOW), ("high", HIGH)):
            for speaker in speakers:
                waves += utter(engine, speaker)
                check(voice, speaker, waves[-len(TAKE) * len(DIGITS) :])
    expected = labels()
    assert len(waves) == len(expected["digit"]) and len(TAKE) == TAKES
    offsets = np.cumsum([0, *map(len, waves)]).astype(np.int32)
    small: dict[str, Any] = {name: values.astype(np.uint8) for name, values in expected.items()}
    np.savez_compressed(arguments.out, samples=compress(np.concatenate(waves)), offsets=offsets, **small)
    print(f"{len(waves)} utterances, {offsets[-1] / RATE:.0f} s, {arguments.out.stat().st_size / 2**20:.2f} MiB")


if __name__ == "__main__":
    main()
