"""Small folders of samples, and a network whose features can be computed by hand."""

import numpy as np
from PIL import Image

from codi_jax.evaluation.networks import NamedNetwork
from codi_jax.evaluation.samples import open_samples
from codi_jax.evaluation.settings import Settings
from codi_jax.evaluation.study import Study
from codi_jax.media import files
from codi_jax.media.image_files import read_image

COLOURS = {"red": (255, 0, 0), "green": (0, 255, 0), "blue": (0, 0, 255)}


def silent(activity, done=0, total=0):
    """No progress."""


def colour(path, name):
    Image.new("RGB", (16, 16), COLOURS[name]).save(path)


def noise(path, seed):
    pixels = np.random.default_rng([seed]).integers(0, 256, (16, 16, 3), np.uint8)
    Image.fromarray(pixels).save(path)


def tone(path, hertz, seconds=1.0, rate=8000):
    files.write_wav(
        path, files.to_int16(0.5 * np.sin(2 * np.pi * hertz * np.arange(round(seconds * rate)) / rate)), rate
    )


def images(folder, n, seed=0):
    """A folder of noise, image_0.png and so on."""
    folder.mkdir(parents=True, exist_ok=True)
    for i in range(n):
        noise(folder / f"image_{i}.png", seed * 1000 + i)
    return folder


def coloured(folder, names, captions):
    """A folder of images of one colour, with captions."""
    folder.mkdir(parents=True, exist_ok=True)
    for i, (name, caption) in enumerate(zip(names, captions, strict=True)):
        colour(folder / f"image_{i}.png", name)
        (folder / f"text_{i}.txt").write_text(f"a {caption} thing\n")
    return folder


class Colours:
    """Mean colours in [-1, 1] of images, and colours that a text names; counts what it reads."""

    modalities, features, joint, options = ("text", "image"), ("pool", "logits"), True, {}

    def __init__(self, identity="colours"):
        self.identity, self.reads, self.sizes = identity, [], []

    def read(self, modality, content):
        self.reads.append(content)
        if modality == "image":
            return np.asarray(read_image(content)).astype(np.float32).mean((0, 1)) / 127.5 - 1
        return np.array(next(rgb for name, rgb in COLOURS.items() if name in content), np.float32) / 127.5 - 1

    def __call__(self, modality, inputs):
        self.sizes.append(len(inputs))
        return {"pool": list(inputs), "logits": [3 * x for x in inputs]}


def study(out, samples, real=None, kind="colours", network=None, **settings):
    """A measurement by `Colours`."""
    network = network or Colours()
    opened = None if real is None else open_samples(str(real))
    named = {"colours": NamedNetwork("colours", kind, network)}
    return Study(open_samples(str(samples)), opened, named, Settings(**settings), out, silent)
