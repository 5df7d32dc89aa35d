"""CoDi at the paper's size, with the hyperparameters of the public release.

CLIP ViT-L/14 for text, images and videos; CLAP's HTSAT-large; the KL-f8 codec; the codec of spectrograms and its
HiFi-GAN; Optimus (BERT, GPT-2); three U-Nets of 0.43 to 2.05 billion parameters. The classes are those of the small
recipes; only sizes differ.

    codi-jax convert  --config=configs/codi.py --out=weights CoDi_*.pth
    codi-jax generate --config=configs/codi.py --config.weights=weights --text "a dog barks" --to image,audio --out d/
    codi-jax generate --config=configs/codi.py:compat=release …      generates as the public code does
    codi-jax generate --config=configs/codi.py:tokenizers=digit_world --random-weights …    runs without weights

By default every output attends to the others, and image and video have separate environment encoders.
`compat=release` reproduces the public code exactly: one environment encoder for image and video, each output attending
to its own token, the aliased skip connection, guidance 7.5, captions sampled instead of decoded greedily.
"""

from ml_collections import ConfigDict

from codi_jax.config import ConfigError
from codi_jax.config_utils import adamw, parse_argument, stage
from codi_jax.data.tokenizer import VOCABULARIES, make_tokenizer

MODALITIES = ("text", "image", "audio", "video")
WIDTH = 768  # D, the prompt space
ENVIRONMENT_WIDTH = 1280  # E
POOLS = ("text+image", "text+audio", "text+video", "audio+video")  # sources of pairs


def unet(kind: str, latent_channels: int, channels: int, **options) -> dict:
    """One of the three U-Nets."""
    return {
        "kind": kind, "latent_channels": latent_channels, "channels": channels, "context_width": WIDTH,
        "multipliers": (1, 2, 4, 4), "blocks": (2, 2, 2, 2), "attention_levels": (True, True, True, False),
        "cross_modal_levels": (True, True, True, False), "heads": 8, "groups": 32, **options,
    }  # fmt: skip


def environment(kind: str, latent_channels: int, channels: int, **options) -> dict:
    """The environment encoder V of the same modality."""
    return {
        "kind": kind, "latent_channels": latent_channels, "channels": channels, "width": ENVIRONMENT_WIDTH,
        "multipliers": (1, 2, 4), "blocks": (1, 1, 1), "groups": 32, "tokens": "pooled", "normalize": True, **options,
    }  # fmt: skip


def text(tokenizers: str, sample: bool) -> dict:
    """`config.model.modalities.text`: CLIP's text tower, Optimus, the U-Net of vectors."""
    special = {"bos": 50258, "eos": 50259, "pad": 50257}  # added by Optimus to GPT-2's 50257 tokens
    names = tuple(
        name + tokenizers + end for name, end in (("", "/clip"), ("bert-optimus:", "/bert"), ("gpt2-optimus:", "/gpt2"))
    )
    if tokenizers in VOCABULARIES:
        words = make_tokenizer(tokenizers)
        special, names = {"bos": words.bos, "eos": words.eos, "pad": words.pad}, (tokenizers,) * 3
    return {
        "tokenizers": names,
        "length": (77, 64, 30),
        "lower": True, "temperature": 1.0 if sample else 0.0, "tidy": True,
        "codec": {
            "encoder": {
                "vocab": 28996, "width": 768, "layers": 12, "heads": 12, "feed_forward": 3072, "positions": 512,
            },
            "decoder": {
                "vocab": 50260, "width": 768, "layers": 12, "heads": 12, "feed_forward": 3072, "positions": 1024,
            },
            "latent": 768, **special,
        },
        "prompt": {
            "vocab": 49408, "width": 768, "layers": 12, "heads": 12, "feed_forward": 3072, "positions": 77,
            "projection": WIDTH,
        },
        "denoiser": unet("vector", 768, 320, vector_tokens=4),
        "environment": environment("vector", 768, 320, vector_tokens=4),
    }  # fmt: skip


def vision(size: int, shared: bool) -> dict:
    """The fields that image and video share: KL-f8, CLIP's vision tower, one U-Net with temporal layers."""
    temporal = {"temporal": True, "temporal_heads": 8, "temporal_divisor": 4, "max_frames": 30}
    return {
        "size": size,
        "clip": {}, "read_size": 512,
        "codec": {
            "in_channels": 3, "channels": 128, "mult": (1, 2, 4, 4), "blocks": 2, "z_channels": 4, "embed_dim": 4,
        },
        "prompt": {
            "image_size": 224, "patch": 14, "width": 1024, "layers": 24, "heads": 16, "feed_forward": 4096,
            "projection": WIDTH, "temporal": True,
        },
        "denoiser": unet("spatial", 4, 320, **temporal),
        "environment": environment("spatial", 4, 320, **temporal),
        "components": {"environment": "vision_environment", "cross": "vision_cross"} if shared else {},
    }  # fmt: skip


def audio() -> dict:
    """`config.model.modalities.audio`: 10.24 s at 16 kHz, 1024 x 64 mels."""
    return {
        "mel": {"sample_rate": 16000, "n_fft": 1024, "hop": 160, "mels": 64, "fmin": 0.0, "fmax": 8000.0},
        "frames": 1024,
        "normalize": True,
        "prompt_mel": {
            "sample_rate": 48000, "n_fft": 1024, "hop": 480, "mels": 64, "fmin": 50.0, "fmax": 14000.0, "power": 2,
            "decibels": True, "floor": 1e-10,
        },
        "prompt_samples": 480_000,
        "codec": {"in_channels": 1, "channels": 128, "mult": (1, 2, 4), "blocks": 2, "z_channels": 8, "embed_dim": 8},
        "prompt": {
            "mel_bins": 64, "spec_size": 256, "patch_size": 4, "patch_stride": (4, 4), "embed_dim": 256,
            "depths": (2, 2, 12, 2), "num_heads": (4, 8, 16, 32), "window": 8, "projection": WIDTH,
        },
        "vocoder": {
            "mels": 64, "channels": 1024, "rates": (5, 4, 2, 2, 2), "kernels": (16, 16, 8, 4, 4),
            "res_kernels": (3, 7, 11), "res_dilations": ((1, 3, 5),) * 3,
        },
        "denoiser": unet("spatial", 8, 192),
        "environment": environment("spatial", 8, 192),
    }  # fmt: skip


def stages(modalities: tuple[str, ...], loss: str) -> dict:
    """`config.stages`: the nine stages of the paper, starting from the codecs and CLIP in `config.weights`.

    Learning rates and batch sizes of the diffusion stages are the paper's (from memory), numbers of steps are ours.
    Prompts are encoded in the step. A subset of the modalities has the stages that need no other modality.
    """
    align = {"align": "contrastive", "timesteps": "shared"}
    if loss == "ours":  # the anchor is a mean over E numbers whose squares sum up to 1
        align = {"align": "anchor", "timesteps": "independent", "align_weight": float(ENVIRONMENT_WIDTH)}
    spatial = ("!vision_unet/.*temporal.*", "vision_unet/.*")  # images do not use the temporal layers
    unets = {
        "text": ("text_unet/.*",),
        "image": spatial,
        "audio": ("audio_unet/.*",),
        "video": ("vision_unet/.*temporal.*",),
    }
    towers = {"audio": "clap_audio/.*", "video": "clip_vision/.*temporal.*"}  # images use CLIP's vision tower unchanged
    rates = {"text": (5e-5, 1024), "image": (2e-5, 256), "audio": (5e-6, 1024), "video": (2e-5, 256)}
    bridging = {
        f"text+{name}": stage(
            "bridging", ("text", name), f"text+{name}", trainable=(tower, "bridging/.*"), steps=20_000, batch_size=8192,
            ema=0.999, optimizer=adamw(1e-4, warmup=1000, weight_decay=1e-4),
            num_stats_samples=0,  # no prompt is centred, since no stage trains clip_text and all prompts need one scale
        ) for name, tower in towers.items()
    }  # fmt: skip
    ldm = {
        name: stage(
            "ldm", (name, "image") if name == "text" else (name, "text"),
            "text+image" if name == "text" else f"text+{name}", trainable=train, steps=100_000,
            batch_size=rates[name][1],
            depends_on=("ldm.image",) if name == "video" else (),
            ema=0.9999, optimizer=adamw(rates[name][0], warmup=1000, weight_decay=1e-4),
            settings={"prompts": {"sources": ("text", "image") if name == "text" else ("text",), "drop": 0.1}},
        ) for name, train in unets.items()
    }  # fmt: skip
    trained = {  # pair -> the modalities whose V and X it trains, its dependencies
        "text+image": (("text", "image"), ("ldm.text", "ldm.image")),
        "text+audio": (("audio",), ("bridging.text+audio", "ldm.audio", "joint.text+image")),
        "audio+video": (("video",), ("bridging.text+video", "ldm.video", "joint.text+audio")),
    }
    joint = {
        pool: stage(
            "latent_alignment", (pair := tuple(pool.split("+"))), pool, depends_on=depends_on, steps=50_000,
            batch_size=1024, trainable=tuple(f"{m}_{role}/.*" for m in aligned for role in ("environment", "cross")),
            ema=0.9999, optimizer=adamw(1e-5, warmup=1000, weight_decay=1e-4),
            settings={"losses": pair, "aligned": aligned, "prompts": {"sources": pair, "drop": 0.5}, **align},
        ) for pool, (aligned, depends_on) in trained.items()
    }  # fmt: skip
    out: dict = {"bridging": {}, "ldm": {}, "joint": {}}
    for group, named in (("bridging", bridging), ("ldm", ldm), ("joint", joint)):
        for name, s in named.items():  # in the order of their dependencies
            included = {f"{group}.{name}" for group, named in out.items() for name in named}
            if set(s["modalities"]) <= set(modalities) and set(s["depends_on"]) <= included:
                out[group][name] = s
    return out


def get_config(argument: str = "") -> ConfigDict:
    """The run.

    `compat=release`; `loss=paper` for the paper's latent alignment; `modalities=text+image` for a subset; `size` in
    pixels per side, `frames` per video; `dtype` of computation; `tokenizers`, a folder with `clip` (as saved by
    transformers), `bert` and `gpt2` (their vocabulary files), or the name of one of our vocabularies, for use with
    random weights.
    """
    options = parse_argument(
        argument, compat="true", loss="ours", modalities="+".join(MODALITIES), size=256, frames=8, dtype="bfloat16",
        tokenizers="weights/tokenizers",
    )  # fmt: skip
    if options.compat not in ("true", "release"):
        raise ConfigError(f"config argument compat: expected true or release, got {options.compat}")
    if options.loss not in ("ours", "paper"):
        raise ConfigError(f"config argument loss: expected ours or paper, got {options.loss}")
    requested = options.modalities.split("+")
    if unknown := [m for m in requested if m not in MODALITIES]:
        raise ConfigError(f"config argument modalities: no {', '.join(unknown)}; there are {', '.join(MODALITIES)}")
    release = options.compat == "release"
    everything = {
        "text": text(options.tokenizers, release),
        "image": vision(options.size, release),
        "audio": audio(),
        "video": {
            **vision(options.size, release),
            "frames": options.frames,
            "rate": 4.0,
            "resize": "torch",
            "read_size": 256,
        },
    }
    modalities = {name: everything[name] for name in MODALITIES if name in requested}
    guidance = {"prompt": 7.5, "environment": 0.0 if release else 2.0}
    return ConfigDict(
        {
            "seed": 0,
            "model": {
                "modalities": modalities, "width": WIDTH, "environment_width": ENVIRONMENT_WIDTH,
                "compat": options.compat, "prediction": "eps", "schedule": "scaled_linear", "null": "empty",
                "environment_tokens": "pooled", "dtype": options.dtype,
            },
            "weights": "",
            # Placeholder data; replace it by your own sources.
            "sources": {
                pool: {"name": "digit_world", "size": 100_000, "modalities": tuple(pool.split("+"))}
                for pool in POOLS
                if set(pool.split("+")) <= set(modalities)
            },
            # The release shares V and X between image and video; this is for using its weights, not for training.
            "stages": {} if release else stages(tuple(modalities), options.loss),
            "generate": {
                "steps": 50, "sampler": "ddim", "eta": 0.0, "spacing": "release",
                "guidance": {name: guidance for name in modalities},
            },
        },
        convert_dict=True,
    )  # fmt: skip
