"""CLIP, CLAP, BERT, GPT-2 and HiFi-GAN against transformers' own, at small sizes."""
# ruff: noqa: E402 (what needs torch is imported once it is known to be there)

import jax.numpy as jnp
import numpy as np
import pytest

torch = pytest.importorskip("torch")

import transformers

from codi_jax.encoders.bert import BertConfig
from codi_jax.encoders.clap import CLAPAudio, CLAPAudioConfig
from codi_jax.encoders.clip import CLIPText, CLIPTextConfig, CLIPVision, CLIPVisionConfig
from codi_jax.encoders.gpt2 import GPT2Config
from codi_jax.encoders.hifigan import HiFiGAN, HiFiGANConfig
from codi_jax.encoders.optimus import Optimus, OptimusConfig
from codi_jax.interop.families import read, recognise
from tests.parity.oracles.oracle import check, loaded, run, shaken, state, target

TOWER = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}
TEXT = CLIPTextConfig(vocab=50, width=32, layers=2, heads=4, feed_forward=48, positions=12, projection=20)
VISION = CLIPVisionConfig(image_size=16, patch=4, width=32, layers=2, heads=4, feed_forward=48, projection=20)
IDS = np.array([[48, 3, 9, 49, 0, 0], [48, 7, 7, 1, 20, 49]])
PIXELS = np.random.default_rng(1).standard_normal((2, 16, 16, 3)).astype(np.float32)


def clip():
    return shaken(
        transformers.CLIPModel(
            transformers.CLIPConfig(
                text_config={**TOWER, "vocab_size": 50, "max_position_embeddings": 12, "eos_token_id": 2},
                vision_config={**TOWER, "image_size": 16, "patch_size": 4},
                projection_dim=20,
            )
        )
    )


def clip_shapes():
    text = target(CLIPText(TEXT), jnp.zeros((1, 6), int))
    return {"clip_text": text, "clip_vision": target(CLIPVision(VISION), jnp.zeros((1, 16, 16, 3)))}


def test_clip():
    oracle = clip()
    found, ignored = read(
        recognise(oracle.state_dict()),
        state(oracle),
        {"clip_text": TEXT, "clip_vision": VISION},
        clip_shapes(),
    )
    assert not any(part.missing for part in found.values())
    assert ignored.keys() == {"logit_scale"}
    with torch.no_grad():
        text = oracle.get_text_features(torch.from_numpy(IDS)).pooler_output
        vision = oracle.get_image_features(torch.from_numpy(PIXELS).movedim(-1, 1)).pooler_output
    check(run(CLIPText(TEXT), found["clip_text"].tree, IDS), text)
    check(run(CLIPVision(VISION), found["clip_vision"].tree, PIXELS), vision)


@pytest.mark.parametrize("tower", ["text", "vision"])
@pytest.mark.parametrize("projection", [True, False], ids=["projection", "alone"])
def test_a_clip_tower_by_itself(tower, projection):
    """Towers saved alone hold the same numbers as in the whole."""
    whole, component = clip(), f"clip_{tower}"
    kind = tower.capitalize() + ("ModelWithProjection" if projection else "Model")
    oracle = getattr(transformers, f"CLIP{kind}")(getattr(whole.config, f"{tower}_config"))
    given = state(whole)
    weights = {}
    for key in oracle.state_dict():
        weights[key] = given[key if key in given else f"{tower}_model.{key}"]
    configs = {"clip_text": TEXT, "clip_vision": VISION}
    everything = read(recognise(given), given, configs, clip_shapes())[0][component].tree
    found = read(recognise(weights), weights, configs, clip_shapes())[0]
    assert found.keys() == {component}
    assert found[component].missing == (() if projection else ("projection/kernel",))
    if not projection:
        del everything["projection"]
    np.testing.assert_equal(found[component].tree, everything)


AUDIO = CLAPAudioConfig(
    mel_bins=16,
    spec_size=64,
    patch_size=4,
    patch_stride=(4, 4),
    embed_dim=16,
    depths=(2, 2, 1),
    num_heads=(2, 4, 4),
    window=4,
    projection=20,
)


@pytest.mark.parametrize("frames", [256, 200])
def test_clap(frames):
    """From the spectrogram to the projection, windows moved and not; of full length, and resized."""
    oracle = transformers.ClapModel(
        transformers.ClapConfig(
            text_config={**TOWER, "vocab_size": 50},
            audio_config={
                "spec_size": 64,
                "num_mel_bins": 16,
                "window_size": 4,
                "patch_size": 4,
                "patch_stride": [4, 4],
                "patch_embeds_hidden_size": 16,
                "hidden_size": 64,
                "depths": [2, 2, 1],
                "num_attention_heads": [2, 4, 4],
                "enable_fusion": False,
            },
            projection_dim=20,
        )
    )
    shaken(oracle)
    tower = CLAPAudio(AUDIO)
    shapes = target(tower, jnp.zeros((1, 4, 16)))
    params = loaded(state(oracle), "clap_audio", AUDIO, shapes, "CLAP of transformers")
    log_mel = np.random.default_rng(1).normal(-3, 2, (2, frames, 16)).astype(np.float32)
    with torch.no_grad():
        pooled = oracle.audio_model(input_features=torch.from_numpy(log_mel)[:, None]).pooler_output
        want = oracle.audio_projection(pooled)
    check(run(tower, params, log_mel), want)


OPTIMUS = OptimusConfig(
    encoder=BertConfig(vocab=50, width=32, layers=2, heads=4, feed_forward=48, positions=16),
    decoder=GPT2Config(vocab=40, width=32, layers=3, heads=4, feed_forward=128, positions=16),
    latent=6,
    bos=37,
    eos=38,
    pad=39,
)


def optimus_shapes():
    ids = jnp.zeros((1, 2), int)
    return {"text_codec": target(Optimus(OPTIMUS), ids, ids)}


def completed(tree):
    """A tree of a part of an Optimus with the other leaves random."""
    rng = np.random.default_rng(2)
    out = {}
    for name, shape in optimus_shapes()["text_codec"].items():
        out[name] = tree.get(name) or {"kernel": rng.standard_normal(shape["kernel"].shape).astype(np.float32)}
    return out


@pytest.mark.parametrize("whole", [False, True], ids=["BertModel", "BertForPreTraining"])
def test_bert(whole):
    config = transformers.BertConfig(**TOWER, vocab_size=50, max_position_embeddings=16)
    oracle = shaken((transformers.BertForPreTraining if whole else transformers.BertModel)(config))
    found, ignored = read(recognise(oracle.state_dict()), state(oracle), {"text_codec": OPTIMUS}, optimus_shapes())
    assert (len(ignored) > 0) == whole
    assert {path.split("/")[0] for path in found["text_codec"].missing} == {"moments", "decoder"}
    bert = oracle.bert if whole else oracle
    ids = np.array([[7, 3, 9, 2, 0, 0], [4, 4, 5, 6, 30, 49]])
    with torch.no_grad():
        want = bert(torch.from_numpy(ids), attention_mask=torch.from_numpy(ids > 0).long()).pooler_output
    params = {"encoder": found["text_codec"].tree["encoder"]}
    check(run(Optimus(OPTIMUS), params, ids, method=lambda m, ids: m.encoder(ids)), want)


@pytest.mark.parametrize("whole", [False, True], ids=["GPT2Model", "GPT2LMHeadModel"])
def test_gpt2_with_the_latent_as_past_and_in_the_embedding(whole):
    """transformers' GPT-2 takes the two entries of our latent, unchanged: the memory as a cache of one position (key
    and value alike, which moves positions by one), the embedding as `inputs_embeds`. W_l and W are random."""
    width, layers, heads = 32, 3, 4
    config = transformers.GPT2Config(vocab_size=37, n_embd=width, n_layer=layers, n_head=heads, n_positions=16)
    oracle = shaken((transformers.GPT2LMHeadModel if whole else transformers.GPT2Model)(config))
    weights = state(oracle)
    found = read(recognise(weights), weights, {"text_codec": OPTIMUS}, optimus_shapes())[0]["text_codec"]
    assert found.rows == {"decoder/token/embedding": 37}
    assert {p for p in found.missing if p.startswith("decoder/")} == {"decoder/memory/kernel", "decoder/latent/kernel"}

    rng = np.random.default_rng(1)
    memory, latent = (rng.standard_normal((6, n)).astype(np.float32) / 6 for n in (layers * width, width))
    z = rng.standard_normal((2, 6)).astype(np.float32)
    ids = rng.integers(0, 37, (2, 9))
    decoder = found.tree["decoder"]
    table = np.concatenate([decoder["token"]["embedding"], rng.standard_normal((3, width)).astype(np.float32)])
    decoder = {**decoder, "token": {"embedding": table}, "memory": {"kernel": memory}, "latent": {"kernel": latent}}
    got = run(Optimus(OPTIMUS), {"decoder": decoder}, z, ids, method="decode_logits")

    gpt2 = oracle.transformer if whole else oracle
    past = transformers.DynamicCache()
    for layer, m in enumerate(np.split(z @ memory, layers, axis=-1)):
        m = torch.from_numpy(m.reshape(2, 1, heads, width // heads)).transpose(1, 2)
        past.update(m, m, layer)
    with torch.no_grad():
        x = gpt2.wte(torch.from_numpy(ids)) + torch.from_numpy(z @ latent)[:, None]
        want = gpt2(None, past, inputs_embeds=x).last_hidden_state @ gpt2.wte.weight.T
    check(got[..., :37], want)


GAN = HiFiGANConfig(
    mels=8,
    channels=32,
    rates=(5, 4),
    kernels=(16, 8),
    res_kernels=(3, 7),
    res_dilations=((1, 3, 5), (1, 2, 4)),
)


@pytest.mark.parametrize("norms", ["fused", "parametrizations", "weight_g and weight_v"])
def test_hifigan(norms):
    """With the first upsampling as AudioLDM has it, kernel 16 and rate 5, and weight norms in every spelling."""
    oracle = transformers.SpeechT5HifiGan(
        transformers.SpeechT5HifiGanConfig(
            model_in_dim=8,
            upsample_initial_channel=32,
            upsample_rates=[5, 4],
            upsample_kernel_sizes=[16, 8],
            resblock_kernel_sizes=[3, 7],
            resblock_dilation_sizes=[[1, 3, 5], [1, 2, 4]],
            normalize_before=False,
        )
    )
    if norms != "fused":
        oracle.apply_weight_norm()
    weights = state(shaken(oracle))
    if norms == "weight_g and weight_v":
        for n, half in enumerate("gv"):
            end = f"parametrizations.weight.original{n}"
            weights = {k.replace(end, f"weight_{half}"): v for k, v in weights.items()}
    assert any(norms.split()[-1] in key for key in weights) or norms == "fused"
    model = HiFiGAN(GAN)
    params = loaded(weights, "vocoder", GAN, target(model, jnp.zeros((1, 5, 8))), "HiFi-GAN generator")
    log_mel = np.random.default_rng(1).standard_normal((2, 11, 8)).astype(np.float32)
    with torch.no_grad():
        want = oracle(torch.from_numpy(log_mel))
    assert want.abs().max() > 0.1
    check(run(model, params, log_mel), want)
