"""Public files that are not read, by the keys that tell what they are.

`families.recognise` looks for these beside the layouts that are read: without, their report would be a list of tensors.
"""

import dataclasses
import re
from collections.abc import Collection


@dataclasses.dataclass(frozen=True)
class Unsupported:
    """A kind of file that is not read.

    Attributes:
      name: what it is.
      required: patterns; a file is of this kind if each matches, in full, some key from any of its dots on.
      advice: what to do.
    """

    name: str
    required: tuple[str, ...]
    advice: str

    def matches(self, keys: Collection[str]) -> bool:
        """Whether a file with these keys is of this kind."""
        return all(any(re.fullmatch(rf"(?:.*\.)?{pattern}", key) for key in keys) for pattern in self.required)

    @property
    def message(self) -> str:
        """What the file is and what to do, in one line."""
        return f"this is {self.name}; {self.advice}"


_SD1 = "give a file of Stable Diffusion 1.x"
_CONTROL = f"it steers another U-Net and is none itself: {_SD1}"

# These have the layout of a family, too, so they are looked for first.
FIRST = (
    Unsupported("Stable Video Diffusion", (r"time_stack\..*",), f"only its image model is like ours: {_SD1}"),
    Unsupported("an AnimateDiff motion module", (r"motion_modules\..*",), "our temporal layers are others; train them"),
    Unsupported(
        "Stable Diffusion XL",
        (r"(conditioner\.embedders|add_embedding|label_emb)\..*",),
        f"its U-Net and text towers are others than ours: {_SD1}",
    ),
    Unsupported(
        "Stable Diffusion 2",
        (r"cond_stage_model\.model\.(token_embedding|ln_final|transformer)\..*",),
        f"its U-Net and text tower are others than ours: {_SD1}",
    ),
    Unsupported("a ControlNet", (r"controlnet_cond_embedding\..*",), _CONTROL),
    Unsupported(
        "a LoRA adapter",
        (r".*[._]?lora[._](A|B|up|down)(\..*)?\.weight",),
        "it needs no conversion: --lora=FILE reads it (docs/weights.md)",
    ),
    Unsupported(
        "a VQ autoencoder",
        (r"quantize\.embedding\.weight",),
        "its latents are others than those of a KL autoencoder, such as kl-f8 of Stable Diffusion 1.x",
    ),
)

OTHERS = (
    Unsupported("a ControlNet", (r"input_hint_block\..*",), _CONTROL),
    Unsupported(
        "a diffusion transformer (Stable Diffusion 3, Flux, PixArt)",
        (r"(joint_blocks|double_blocks|x_embedder|context_embedder|adaln_single)\..*",),
        f"ours is a U-Net: {_SD1}",
    ),
    Unsupported("SigLIP", (r"vision_model\.head\.probe",), "its towers are others than CLIP's: give CLIP ViT-L/14"),
    Unsupported(
        "CLAP of Microsoft",
        (r"audio_encoder\.base\.htsat\..*",),
        "its projections are others: give LAION's CLAP, its own file or that of transformers",
    ),
    Unsupported(
        "the discriminators of a HiFi-GAN",
        (r"(mpd|msd|model_d|discriminator)\..*",),
        "give the file of the generator, g_…",
    ),
    Unsupported(
        "a BigVGAN vocoder",
        (r"resblocks\.0\.activations\.0\..*",),
        "its activations are others: give a HiFi-GAN generator",
    ),
    Unsupported(
        "a vocoder of ParallelWaveGAN",
        (r"upsamples\.0\.1\..*", r"blocks\.0\.convs1\.0\.1\..*"),
        "give the HiFi-GAN generator as transformers' SpeechT5HifiGan or the original names it (conv_pre, ups)",
    ),
    Unsupported("a textual inversion", (r"(emb_params|string_to_param\..*)",), "it is a token, no network: not read"),
)
