"""The sizes of a network in a public file beside those of the model's, for a message in one line.

A tower of another size differs in nearly every tensor, so their names say nothing; a few numbers do, and the name of
the published network that has them.
"""

import dataclasses
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from codi_jax.interop.names import LAYOUTS, NameTable, Rule, flatten
from codi_jax.types import PyTree


@dataclasses.dataclass(frozen=True)
class Size:
    """A size of a component.

    Attributes:
      label: its name in a message.
      path: pattern of our paths (full match); the size is read off the first leaf that matches.
      axis: of the leaf; None for the number of different values of the pattern's group.
      published: size -> the published networks that have it.
    """

    label: str
    path: str
    axis: int | None = None
    published: Mapping[int, str] = dataclasses.field(default_factory=dict)

    def of(self, shapes: Mapping[str, tuple[int, ...]]) -> int | None:
        """The size in a component with leaves of these shapes, by path; None if it has no such leaf."""
        found = {path: match for path in shapes if (match := re.fullmatch(self.path, path))}
        if self.axis is None:
            return len({match[1] for match in found.values()}) or None
        shape = shapes[next(iter(found))] if found else ()
        return shape[self.axis] if self.axis < len(shape) else None

    def shown(self, value: int) -> str:
        """The size, with what is known of it."""
        return f"{value} ({self.published[value]})" if value in self.published else str(value)


_TOWER = {512: "ViT-B", 768: "ViT-L", 1024: "ViT-H", 1280: "ViT-bigG"}
_CODEC = (
    Size("input channels", "encoder/conv_in/kernel", 2, {1: "spectrograms", 3: "images"}),
    Size("channels", "encoder/conv_in/kernel", 3),
    Size("latent channels", "decoder/conv_in/kernel", 2, {16: "Stable Diffusion 3, Flux"}),
    Size("residual blocks", "(encoder/down_[0-9]+_block_[0-9]+)/.*"),
)

# Component -> the sizes that tell published networks apart.
SIZES: dict[str, tuple[Size, ...]] = {
    "vision_unet": (
        Size(
            "input channels",
            "inputs_0/stem/kernel",
            2,
            {5: "depth to image", 7: "an upscaler", 8: "InstructPix2Pix", 9: "inpainting"},
        ),
        Size("channels", "inputs_0/stem/kernel", 3),
        Size(
            "width of the context",
            ".*/attend/cross/key/kernel",
            0,
            {768: "Stable Diffusion 1", 1024: "Stable Diffusion 2", 2048: "Stable Diffusion XL"},
        ),
    ),
    "vision_codec": _CODEC,
    "audio_codec": _CODEC,
    "clip_text": (
        Size("width", "token/embedding", 1, _TOWER),
        Size("layers", "(layer_[0-9]+)/.*"),
        Size("tokens", "token/embedding", 0),
        Size("positions", "position/embedding", 0),
        Size("projection", "projection/kernel", 1),
    ),
    "clip_vision": (
        Size("width", "class", 0, {768: "ViT-B", 1024: "ViT-L", 1280: "ViT-H", 1664: "ViT-bigG"}),
        Size("pixels per patch", "patch/kernel", 0),
        Size("layers", "(layer_[0-9]+)/.*"),
        Size("positions", "position/embedding", 0, {257: "224 pixels", 577: "336 pixels"}),
        Size("projection", "projection/kernel", 1),
    ),
    "clap_audio": (
        Size("width", "patch/kernel", 3, {96: "HTSAT-tiny", 128: "HTSAT-base", 256: "HTSAT-large"}),
        Size("blocks", "(stage_[0-9]+_block_[0-9]+)/.*"),
        Size("projection", "projection1/kernel", 1),
    ),
    "text_codec": (
        Size("width of BERT", "encoder/embeddings/token/embedding", 1, {768: "base", 1024: "large"}),
        Size("layers of BERT", "encoder/(layer_[0-9]+)/.*"),
        Size("tokens of BERT", "encoder/embeddings/token/embedding", 0, {28996: "cased", 30522: "uncased"}),
        Size("width of GPT-2", "decoder/token/embedding", 1, {768: "small", 1024: "medium", 1280: "large", 1600: "XL"}),
        Size("layers of GPT-2", "decoder/(layer_[0-9]+)/.*"),
    ),
    "vocoder": (
        Size("mels", "conv_in/kernel", 1),
        Size("channels", "conv_in/kernel", 2, {128: "V2", 256: "V3", 512: "V1", 1024: "AudioLDM"}),
        Size("upsampling layers", "(up_[0-9]+)/.*"),
        Size("residual blocks", "(res_[0-9]+)/.*"),
    ),
}


def differences(component: str, rules: Sequence[Rule], tensors: Mapping[str, Any], target: PyTree) -> str | None:
    """The sizes of a file's network that are not those of the model's.

    Args:
      component: its name.
      rules: the name table.
      tensors: their key -> array.
      target: nested dict whose leaves have the shapes of the model's network.

    Returns:
      For a message; None if no size differs that both have.
    """
    table = NameTable(rules, "theirs", "ours")
    theirs: dict[str, tuple[int, ...]] = {}
    for key, array in tensors.items():
        for rule, path in table.matches(key)[:1]:
            try:
                theirs[path] = LAYOUTS[rule.layout].to_ours(np.broadcast_to(np.float32(0), np.shape(array))).shape
            except (ValueError, IndexError):  # of another number of axes, which the reader reports
                continue
    ours = {path: tuple(leaf.shape) for path, leaf in flatten(target).items()}
    found = [
        f"{size.label} {size.shown(a)}, the model's {size.shown(b)}"
        for size in SIZES.get(component, ())
        for a, b in [(size.of(theirs), size.of(ours))]
        if a is not None and b is not None and a != b
    ]
    return f"has other sizes than the model, so take another file or config: {'; '.join(found)}" if found else None
