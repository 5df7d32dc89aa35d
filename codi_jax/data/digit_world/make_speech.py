"""How speech.npz was made: eSpeak NG says the ten words in forty voices, once.

    pip install espeakng-loader==0.2.4 soxr==1.1.0
    python -m codi_jax.data.digit_world.make_speech --out FILE

The engine is not bit-reproducible from run to run and is under the GPL, hence a frozen file and no requirement. A
speaker is one of its plain voice variants (the shape of the formants) with a pitch and a rate of speech of our own, and
a size: speech that is played σ times faster has its pitch and its formants multiplied by σ, as if a smaller person
spoke. A variant that serves a low and a high voice does so at the same place of both tables, and the place decides the
split (`speech.SPLITS`), so that no variant is heard in two of them. A pretrained recogniser (Whisper tiny.en, choosing
among the ten words) understands at least 18 of every speaker's 20 utterances, which ruled out most of the variants.
"""

import argparse
import ctypes
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from codi_jax.data.digit_world.factors import DIGITS
from codi_jax.data.digit_world.speech import LONGEST, RATE, TAKES, compress, labels

LOWEST_HIGH, HIGHEST_LOW = 190.0, 120.0  # Hz: no speaker's median pitch lies between
SILENCE = 10 ** (-35 / 20)  # beside the loudest frame
FRAME = 80  # samples, 10 ms
TAKE = ((1.0, 0), (1.04, 12))  # by what each take multiplies a speaker's pitch, and what it adds to the rate


class Speaker(NamedTuple):
    """A variant of the engine's English voice ("" for the voice itself) and how it speaks.

    Attributes:
      variant: its name.
      pitch: Hz before σ; what is heard lies some 13 percent higher.
      rate: words a minute, before σ.
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
    """eSpeak NG by ctypes, with a copy of its data under `folder` to which voices can be added."""

    def __init__(self, folder: Path):
        import espeakng_loader

        data = folder / "espeak-ng-data"
        shutil.copytree(espeakng_loader.get_data_path(), data)
        self._variants = (data / "voices" / "!v").rename(folder / "variants")  # the engine bears 350 voices, no more
        self._own = data / "voices" / "!v" / "own"
        self._own.parent.mkdir()
        self._library = ctypes.CDLL(espeakng_loader.get_library_path())
        self._library.espeak_Synth.argtypes = (
            *(ctypes.c_char_p, ctypes.c_size_t, ctypes.c_uint, ctypes.c_int, ctypes.c_uint, ctypes.c_uint),
            *(ctypes.c_void_p, ctypes.c_void_p),
        )
        retrieval = 1
        self._rate = self._library.espeak_Initialize(retrieval, 0, str(data).encode(), 0)
        self._heard: list[np.ndarray] = []

        @ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.c_void_p)
        def listen(wave, count, _):
            if wave and count:
                self._heard.append(np.ctypeslib.as_array(wave, (count,)).copy())
            return 0

        self._listen = listen  # the library keeps no reference
        self._library.espeak_SetSynthCallback(listen)

    def say(self, words: Sequence[str], speaker: Speaker) -> list[np.ndarray]:
        """What the speaker makes of the words: float32 at 8 kHz, silence and all."""
        import soxr

        lines = ["language variant"]
        if speaker.variant:
            lines = (self._variants / speaker.variant).read_text(encoding="latin1").splitlines()
        kept = [line for line in lines if line.split()[:1] not in (["name"], ["pitch"])]
        own = [*kept, "name own", f"pitch {speaker.pitch:.0f} {1.4 * speaker.pitch:.0f}", ""]
        self._own.write_text("\n".join(own), encoding="latin1")
        rate_parameter, utf8, out = 1, 1, []
        for other in (b"de", b"en+own"):  # a voice that is in use is not read again
            if self._library.espeak_SetVoiceByName(other):
                raise SystemExit(f"the engine refuses {speaker}")
        self._library.espeak_SetParameter(rate_parameter, speaker.rate, 0)
        for word in words:
            self._heard.clear()
            if self._library.espeak_Synth(word.encode(), len(word.encode()) + 1, 0, 1, 0, utf8, None, None):
                raise SystemExit(f"the engine does not say {word}")
            self._library.espeak_Synchronize()
            wave = np.concatenate(self._heard).astype(np.float32) / 2**15
            out.append(soxr.resample(wave, self._rate * speaker.size, RATE, quality="VHQ"))
        return out


def trim(wave: np.ndarray) -> np.ndarray:
    """Cuts silence off both ends, fades what is cut within 5 ms, and brings the peak to 1."""
    frames = wave[: len(wave) // FRAME * FRAME].reshape(-1, FRAME)
    level = np.sqrt((frames**2).mean(1))
    (loud,) = np.nonzero(level > SILENCE * level.max())
    out = wave[max(loud[0] - 1, 0) * FRAME : (loud[-1] + 2) * FRAME].copy()
    ramp = np.linspace(0, 1, FRAME // 2, dtype=np.float32)
    out[: len(ramp)] *= ramp
    out[-len(ramp) :] *= ramp[::-1]
    return out / np.abs(out).max()


def pitch_of(wave: np.ndarray, lowest: float = 60, highest: float = 400) -> float:
    """The median pitch of a wave at 8 kHz, in Hz, by autocorrelation; nan where nothing is voiced.

    In frames of 50 ms that are loud enough, the first peak of the autocorrelation that comes near the highest one:
    the highest itself may lie at twice the period.
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
    """All takes of all words by a speaker, ready for the file."""
    takes = [speaker._replace(pitch=speaker.pitch * pitch, rate=speaker.rate + rate) for pitch, rate in TAKE]
    return [trim(wave) for take in takes for wave in engine.say(DIGITS, take)]


def tell(voice: str, speaker: Speaker, waves: list[np.ndarray]) -> None:
    """Prints a speaker's line of the table, and stops where it is not what it has to be."""
    pitches, seconds = [pitch_of(wave) for wave in waves], [len(wave) / RATE for wave in waves]
    median = np.nanmedian(pitches)
    print(
        f"{voice:4} {speaker.variant or 'en':10}"
        f" {median:4.0f} Hz ({np.nanmin(pitches):3.0f} to {np.nanmax(pitches):3.0f})"
        f"  {np.mean(seconds):.2f} s (at most {max(seconds):.2f} s)"
    )
    if max(seconds) > LONGEST / RATE or (median > HIGHEST_LOW if voice == "low" else median < LOWEST_HIGH):
        raise SystemExit(f"{speaker} is too slow, or not a {voice} voice")


def main(argv: list[str] | None = None) -> None:
    """Writes the file and prints a table of the speakers' pitch and duration."""
    parser = argparse.ArgumentParser(description="Make the frozen utterances of digit_world.")
    parser.add_argument("--out", type=Path, required=True, help="the .npz file to write")
    arguments = parser.parse_args(argv)
    waves = []
    with tempfile.TemporaryDirectory() as folder:
        engine = Engine(Path(folder))
        for voice, speakers in (("low", LOW), ("high", HIGH)):
            for speaker in speakers:
                waves += utter(engine, speaker)
                tell(voice, speaker, waves[-len(TAKE) * len(DIGITS) :])
    known = labels()
    assert len(waves) == len(known["digit"]) and len(TAKE) == TAKES
    offsets = np.cumsum([0, *map(len, waves)]).astype(np.int32)
    small = {name: values.astype(np.uint8) for name, values in known.items()}
    np.savez_compressed(arguments.out, samples=compress(np.concatenate(waves)), offsets=offsets, **small)
    print(f"{len(waves)} utterances, {offsets[-1] / RATE:.0f} s, {arguments.out.stat().st_size / 2**20:.2f} MiB")


if __name__ == "__main__":
    main()
