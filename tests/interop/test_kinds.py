"""Files as people have them: other prefixes and containers give the same bits; what is not read is named."""

import re

import numpy as np
import pytest

from codi_jax.config import ConfigError
from codi_jax.interop import unsupported
from codi_jax.interop.families import family_of, read, recognise
from tests.interop import cases, files
from tests.interop.cases import CONFIGS
from tests.interop.states import UNET, bytes_of, only, state_of, under

MAX_LINE = 420  # characters; the refusals of these files had 1,870 to 13,891


def replaced(old, new):
    return lambda state: {key.replace(old, new): value for key, value in state.items()}


def chain(*changes):
    def all_of_them(state):
        for change in changes:
            state = change(state)
        return state

    return all_of_them


def beside(state, **others):
    return state | {key.replace("__", "."): np.zeros(shape, np.float32) for key, shape in others.items()}


VAE, CLIP = "first_stage_model.", "cond_stage_model.transformer."
# name -> (a file of the same weights, the change of its keys, the components that are left)
VARIANTS = {
    "SD, CLIP without text_model": ("SD", replaced(f"{CLIP}text_model.", CLIP), None),
    "SD and a ControlNet": ("SD", lambda s: beside(s, control_model__input_hint_block__0__weight=(2,)), None),
    "SD and a textual inversion": ("SD", lambda s: beside(s, embedding_manager__embedder__weight=(2,)), None),
    "SD, training state": ("SD", lambda s: beside(under("state_dict.")(s), callbacks__best_model_score=()), None),
    "U-Net, bare": ("SD", only(UNET), ["vision_unet"]),
    "U-Net, diffusion_model": ("SD", only(UNET, "diffusion_model."), ["vision_unet"]),
    "U-Net, model.diffusion_model": ("SD", only(UNET, UNET), ["vision_unet"]),
    "U-Net, unet": ("SD", only(UNET, "unet."), ["vision_unet"]),
    **{
        f"U-Net, {container}": ("SD", only(UNET, f"{container}."), ["vision_unet"])
        for container in [
            "net",
            "network",
            "params",
            "weights",
            "state",
            "model_state",
            "model_state_dict",
            "checkpoint",
        ]
    },
    "U-Net, state_dict.model": ("SD", only(UNET, "state_dict.model."), ["vision_unet"]),
    "VAE, first_stage_model": ("SD", only(VAE, VAE), ["vision_codec"]),
    "VAE, bare": ("SD", only(VAE), ["vision_codec"]),
    "VAE, state_dict": ("SD", only(VAE, "state_dict."), ["vision_codec"]),
    "VAE of diffusers, vae": ("VAE", under("vae."), None),
    "U-Net of diffusers, unet": ("U-Net", under("unet."), None),
    "CLIP text, in SD's names": ("SD", only(CLIP, CLIP), ["clip_text"]),
    "CLIP text, bare": ("SD", only(f"{CLIP}text_model."), ["clip_text"]),
    "CLIP, module": ("CLIP", under("module."), None),
    "CLAP of LAION, module": ("CLAP, LAION", only("state_dict.module.", "module."), None),
    "CLAP of LAION, model": ("CLAP, LAION", only("state_dict.module.", "model."), None),
    "CLAP of LAION, state_dict": ("CLAP, LAION", only("state_dict.module.", "state_dict."), None),
    "CLAP of LAION, bare": ("CLAP, LAION", only("state_dict.module."), None),
    "CLAP in AudioLDM's names": (
        "CLAP, LAION",
        only("state_dict.module.", "cond_stage_model.model."),
        None,
    ),
    "CLAP of transformers, model": ("CLAP", under("model."), None),
    "AudioLDM, state_dict": ("AudioLDM", under("state_dict."), None),
    "AudioLDM 2": (
        "AudioLDM",
        lambda s: beside(
            {key: value for key, value in s.items() if not key.startswith("cond_stage_model.")},
            cond_stage_models__0__weight=(2,),
            clap__model__logit_scale_a=(),
        ),
        ["audio_codec", "vocoder"],
    ),
    "AudioLDM's autoencoder": ("AudioLDM", only(VAE), ["audio_codec", "vocoder"]),
    "AudioLDM's vocoder": ("AudioLDM", only(f"{VAE}vocoder.", f"{VAE}vocoder."), ["vocoder"]),
    "HiFi-GAN and its discriminators": (
        "HiFi-GAN, fused",
        lambda s: beside(under("generator.")(s), mpd__0__weight=(2,), optim_g__state__0=(2,)),
        None,
    ),
    **{
        f"HiFi-GAN, {prefix}": ("HiFi-GAN, fused", under(prefix), None)
        for prefix in ("generator.", "model_g.", "model.model_g.", "model.generator.", "state_dict.", "vocoder.")
    },
    "HiFi-GAN, weight norms, module": ("HiFi-GAN", chain(only("generator."), under("generator.module.")), None),
}


@pytest.mark.parametrize("name", VARIANTS)
def test_other_names_of_the_same_weights_give_the_same_bits(name):
    original, change, left = VARIANTS[name]
    state = state_of(original)
    expected, found = bytes_of(state), bytes_of(change(state))
    assert found.keys() == set(left or expected)
    for component, leaves in found.items():
        want = expected[component]
        if component == "clip_text":  # without the projection, which files of diffusion lack
            assert leaves.keys() <= want.keys()
            want = {path: want[path] for path in leaves}
        assert leaves == want


def of_open_clip(state):
    """A CLIP of transformers with the names and arrays of OpenAI's code."""
    out, layers = {"logit_scale": state["logit_scale"]}, {}
    renames = {
        "text_model.embeddings.token_embedding.weight": "token_embedding.weight",
        "text_model.embeddings.position_embedding.weight": "positional_embedding",
        "vision_model.embeddings.class_embedding": "visual.class_embedding",
        "vision_model.embeddings.position_embedding.weight": "visual.positional_embedding",
        "vision_model.embeddings.patch_embedding.weight": "visual.conv1.weight",
    }
    for key, value in state.items():
        key = key.replace("text_model.final_layer_norm", "ln_final")
        key = key.replace("vision_model.pre_layrnorm", "visual.ln_pre")
        key = key.replace("vision_model.post_layernorm", "visual.ln_post")
        key = key.replace("text_model.encoder.layers", "transformer.resblocks")
        key = key.replace("vision_model.encoder.layers", "visual.transformer.resblocks")
        for old, new in (("self_attn.out_proj", "attn.out_proj"), ("layer_norm", "ln_"), ("mlp.fc1", "mlp.c_fc")):
            key = key.replace(old, new)
        key = key.replace("mlp.fc2", "mlp.c_proj")
        if m := re.fullmatch(r"(.*)self_attn\.([qkv])_proj\.(weight|bias)", key):
            layers.setdefault(f"{m[1]}attn.in_proj_{m[3]}", {})[m[2]] = value
        elif key in ("text_projection.weight", "visual_projection.weight"):
            out[key.removesuffix(".weight").replace("visual_projection", "visual.proj")] = value.T.copy()
        elif not key.endswith("position_ids"):
            out[renames.get(key, key)] = value
    return out | {key: np.concatenate([parts[p] for p in "qkv"]) for key, parts in layers.items()}


@pytest.mark.parametrize("prefix", ["", "module.", "state_dict.module."])
def test_open_clip_has_the_bits_of_transformers(prefix):
    state = state_of("CLIP")
    assert bytes_of(under(prefix)(of_open_clip(state))) == bytes_of(state)


def test_a_joined_attention_that_is_not_three_is_named():
    state = of_open_clip(state_of("CLIP")) | {"transformer.resblocks.0.attn.in_proj_bias": np.zeros(25, np.float32)}
    with pytest.raises(ConfigError, match=r"in_proj_bias \(25,\) is not a query, a key and a value"):
        bytes_of(state)


def widened(name, key, axis, length):
    """A file with one tensor of another length along an axis."""
    state = state_of(name)
    shape = list(state[key].shape)
    shape[axis] = length
    return state | {key: np.zeros(shape, np.float32)}


def resized(name, old, new):
    """A file whose tensors have another length wherever they had `old`."""
    return {
        key: np.zeros([new if n == old else n for n in value.shape], np.float32)
        for key, value in state_of(name).items()
    }


STEM = "input_blocks.0.0.weight"
SD1 = "give a file of Stable Diffusion 1.x"
SIZES = "has other sizes than the model, so take another file or config"


def stable_diffusion_2():
    """One file: matrices around transformers, contexts of 1024, OpenCLIP's text tower."""
    state = {key: value for key, value in state_of("SD").items() if not key.startswith(CLIP)}
    for key, value in state.items():
        if key.endswith(("proj_in.weight", "proj_out.weight")) and value.ndim == 4 and key.startswith(UNET):
            state[key] = value[..., 0, 0]
        if key.endswith(("attn2.to_k.weight", "attn2.to_v.weight")):
            state[key] = np.zeros((len(value), 1024), np.float32)
    text = {key: value for key, value in of_open_clip(state_of("CLIP")).items() if not key.startswith("visual.")}
    return state | under("cond_stage_model.model.")(text)


def stable_diffusion_xl():
    """One file: contexts of 2048, both text towers, an embedding of sizes."""
    state = {key: value for key, value in stable_diffusion_2().items() if not key.startswith("cond_stage_model.")}
    state |= under("conditioner.embedders.0.transformer.")(state_of("CLIP text"))
    state |= under("conditioner.embedders.1.model.")(of_open_clip(state_of("CLIP")))
    return beside(state, model__diffusion_model__label_emb__0__0__weight=(8, 8))


# name -> (its tensors, what is said of it)
NAMED = {
    "inpainting": (
        lambda: widened("SD", UNET + STEM, 1, 9),
        f"vision_unet: {SIZES}: input channels 9 (inpainting), the model's 4; "
        "without it: --only=vision_codec,clip_text",
    ),
    "inpainting, U-Net of diffusers": (
        lambda: widened("U-Net", "conv_in.weight", 1, 9),
        f"vision_unet: {SIZES}: input channels 9 (inpainting), the model's 4",
    ),
    "SD 2": (
        stable_diffusion_2,
        f"this is Stable Diffusion 2; its U-Net and text tower are others than ours: {SD1}",
    ),
    "SD 2, U-Net alone": (
        lambda: only(UNET)(stable_diffusion_2()),
        "width of the context 1024 (Stable Diffusion 2), the model's 6",
    ),
    "SDXL": (
        stable_diffusion_xl,
        f"this is Stable Diffusion XL; its U-Net and text towers are others than ours: {SD1}",
    ),
    "SDXL, U-Net of diffusers": (
        lambda: beside(state_of("U-Net"), add_embedding__linear_1__weight=(8, 8)),
        f"this is Stable Diffusion XL; its U-Net and text towers are others than ours: {SD1}",
    ),
    "CLIP of another size": (
        lambda: resized("CLIP", 8, 768),
        f"clip_text: {SIZES}: width 768 (ViT-L), the model's 8; clip_vision: {SIZES}: width 768 (ViT-B), the model's 8",
    ),
    "CLAP of another size": (
        lambda: resized("CLAP, LAION", 4, 96),
        f"clap_audio: {SIZES}: width 96 (HTSAT-tiny), the model's 4",
    ),
    "GPT-2 of another size": (
        lambda: resized("GPT-2", 8, 1024),
        f"text_codec: {SIZES}: width of GPT-2 1024 (medium), the model's 8",
    ),
    "HiFi-GAN of another size": (
        lambda: widened("HiFi-GAN, fused", "conv_pre.weight", 1, 80),
        f"vocoder: {SIZES}: mels 80, the model's 4",
    ),
    "a tower with a layer less": (
        lambda: {k: v for k, v in state_of("CLIP text").items() if ".layers.1." not in k},
        f"clip_text: {SIZES}: layers 1, the model's 2",
    ),
    "AudioLDM's U-Net": (
        lambda: beside(state_of("U-Net, original"), film_emb__weight=(8, 5)),
        "into which CLAP's embedding enters by FiLM",
    ),
    "HiFi-GAN V3": (
        lambda: beside(state_of("HiFi-GAN, fused"), resblocks__0__convs__0__weight=(4, 4, 3)),
        "resblocks.0.convs.0.weight: the residual blocks of HiFi-GAN's V3; V1 and V2 are read",
    ),
    "OpenAI's ResNet": (
        lambda: beside(of_open_clip(state_of("CLIP")), visual__layer1__0__conv1__weight=(8, 8, 1, 1)),
        "an image tower that is not CLIP's ViT, as ours; give CLIP ViT-L/14",
    ),
    "a VQ autoencoder": (
        lambda: beside(state_of("VAE, original"), quantize__embedding__weight=(16, 4)),
        "this is a VQ autoencoder; its latents are others than those of a KL autoencoder",
    ),
    "ControlNet of diffusers": (
        lambda: beside(state_of("U-Net"), controlnet_cond_embedding__conv_in__weight=(8, 3, 3, 3)),
        f"this is a ControlNet; it steers another U-Net and is none itself: {SD1}",
    ),
    "ControlNet": (
        lambda: under("control_model.")(beside(state_of("U-Net, original"), input_hint_block__0__weight=(8, 3, 3, 3))),
        f"this is a ControlNet; it steers another U-Net and is none itself: {SD1}",
    ),
    "LoRA": (
        lambda: files.filled({"lora_unet_mid_block_attentions_0_proj_in.lora_down.weight": (4, 8)}),
        "this is a LoRA adapter; it needs no conversion: --lora=FILE reads it",
    ),
    "LoRA of diffusers": (
        lambda: files.filled({"unet.mid_block.attentions.0.proj_in.lora_A.weight": (4, 8)}),
        "this is a LoRA adapter",
    ),
    "SD 3": (
        lambda: files.filled({"model.diffusion_model.joint_blocks.0.x.weight": (4,)}),
        "this is a diffusion",
    ),
    "Stable Video Diffusion": (
        lambda: beside(state_of("SD"), model__diffusion_model__input_blocks__1__0__time_stack__0__bias=(8,)),
        "this is Stable Video Diffusion; only its image model is like ours",
    ),
    "AnimateDiff": (
        lambda: files.filled({"down_blocks.0.motion_modules.0.temporal_transformer.norm.bias": (8,)}),
        "this is an AnimateDiff motion module; our temporal layers are others; train them",
    ),
    "SigLIP": (
        lambda: files.filled({"vision_model.head.probe": (1, 1, 8), "logit_bias": (1,)}),
        "this is SigLIP; its towers are others than CLIP's: give CLIP ViT-L/14",
    ),
    "ParallelWaveGAN": (
        lambda: files.filled(
            {"model.generator.upsamples.0.1.bias": (4,), "model.generator.blocks.0.convs1.0.1.bias": (4,)}
        ),
        "this is a vocoder of ParallelWaveGAN; give the HiFi-GAN generator as",
    ),
    "CLAP of Microsoft": (
        lambda: files.filled({"model.audio_encoder.base.htsat.norm.weight": (4,)}),
        "this is CLAP of Microsoft; its projections are others: give LAION's CLAP",
    ),
    "discriminators": (
        lambda: files.filled({"mpd.discriminators.0.convs.0.bias": (4,), "optim_g.state.0.exp_avg": (4,)}),
        "this is the discriminators of a HiFi-GAN; give the file of the generator, g_…",
    ),
    "BigVGAN": (
        lambda: files.filled(
            {"generator.ups.0.0.weight_g": (4,), "generator.resblocks.0.activations.0.act.alpha": (4,)}
        ),
        "this is a BigVGAN vocoder",
    ),
    "textual inversion": (lambda: files.filled({"emb_params": (2, 8)}), "this is a textual inversion"),
    "another network": (
        lambda: files.filled({f"blocks.{n}.weight": (2,) for n in range(500)}),
        "a file of unknown layout (blocks.0.weight, blocks.1.weight, blocks.2.weight, …)",
    ),
}


@pytest.mark.parametrize("name", NAMED)
def test_what_is_not_read_is_named_in_one_short_line(name):
    make, said = NAMED[name]
    state = make()
    with pytest.raises(ConfigError) as error:
        read(recognise(state), state, CONFIGS, cases.targets())
    message = str(error.value)
    assert said in message, message
    assert "\n" not in message and len(message) < MAX_LINE, len(message)


def test_every_kind_that_is_not_read_has_a_file():
    kinds = [*unsupported.FIRST, *unsupported.OTHERS]
    files_of = {kind.name for kind in kinds for make, _ in NAMED.values() if kind.matches(make())}
    assert files_of == {kind.name for kind in kinds}


def test_a_file_of_which_half_is_missing_is_described_briefly():
    state = state_of("SD")
    half = {key: value for n, (key, value) in enumerate(state.items()) if n % 2 == 0 or key == UNET + STEM}
    with pytest.raises(ConfigError) as error:
        read(recognise(half), half, CONFIGS, cases.targets())
    message = str(error.value)
    assert re.search(
        r"vision_unet: the checkpoint does not fit: \d+ of \d+ tensors do\. missing: .* and \d+ more", message
    )
    assert len(message) < 1200


def test_files_of_the_release_are_of_no_family():
    for key in ("clip.model.text_model.embeddings.token_embedding.weight", "audioldm.vocoder.conv_pre.weight"):
        assert family_of([key, "model.diffusion_model.unet_image.input_blocks.0.0.weight"]) is None


def main():
    """Prints, for each kind of file, the components that are read, or the length of its report and the report."""
    kinds = {name: (lambda change=change, of=of: change(state_of(of))) for name, (of, change, _) in VARIANTS.items()}
    kinds |= {"CLIP, open_clip": lambda: of_open_clip(state_of("CLIP"))}
    kinds |= {name: make for name, (make, _) in NAMED.items()}
    for name, make in kinds.items():
        state = make()
        try:
            said = f"read: {', '.join(read(recognise(state), state, CONFIGS, cases.targets())[0])}"
        except ConfigError as error:
            said = f"{len(str(error))}: {error}"
        print(f"{name:40} {said}")


if __name__ == "__main__":
    main()
