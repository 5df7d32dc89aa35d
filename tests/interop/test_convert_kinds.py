"""`convert` of files of Stable Diffusion as people have them: averages, parts, shards."""

import dataclasses
import json
import re

import numpy as np
import pytest
from flax import traverse_util
from safetensors.numpy import save_file

from codi_jax.checkpoint import CheckpointReader, read_meta
from codi_jax.config import ConfigError
from codi_jax.interop import autokl, clip, unet
from codi_jax.interop.convert import convert
from codi_jax.interop.export import export
from codi_jax.interop.names import flatten, to_release
from tests import toy
from tests.interop import paper
from tests.interop.files import save

UNET, STEM = "model.diffusion_model.", "model.diffusion_model.input_blocks.0.0.weight"
ABSENT = re.compile(r".*/temporal(_[01])?/.*|projection/.*")


@pytest.fixture(scope="module")
def sd():
    """A model, and the tensors of a file of Stable Diffusion of its size: weights, averages, schedule."""
    model = paper.codi()
    params = toy.params(model)
    config = dataclasses.replace(model["image"].config.denoiser, temporal=False)
    tables = {
        "vision_unet": (UNET, unet.body_rules(config)),
        "vision_codec": ("first_stage_model.", autokl.RULES),
        "clip_text": ("cond_stage_model.transformer.", clip.TEXT),
    }
    state = {"betas": np.zeros(9, np.float32), "model_ema.decay": np.ones((), np.float32)}
    for component, (prefix, rules) in tables.items():
        held = {path: leaf for path, leaf in flatten(params[component]).items() if not ABSENT.fullmatch(path)}
        tree = traverse_util.unflatten_dict(held, sep="/")
        state |= {prefix + key: value for key, value in to_release(tree, rules).items()}
    for key in [key for key in state if key.startswith(UNET)]:
        state["model_ema." + key.removeprefix("model.").replace(".", "")] = state[key] * 2
    return model, params, state


def leaves(directory, component):
    reader, root = CheckpointReader(str(directory / component)), f"params/{component}/"
    return {path.removeprefix(root): reader.read(path) for path in reader.shapes if path.startswith(root)}


def held(params, component):
    return {p: np.asarray(leaf) for p, leaf in flatten(params[component]).items() if not ABSENT.fullmatch(p)}


def same(a, b):
    return all(a[path].tobytes() == value.tobytes() and a[path].shape == value.shape for path, value in b.items())


@pytest.mark.parametrize("ema", [pytest.param(False, marks=pytest.mark.slow), True])
def test_weights_or_averages_are_written(sd, tmp_path, ema):
    model, params, state = sd
    file = save(tmp_path / "full-ema.ckpt", {f"state_dict.{key}": value for key, value in state.items()})
    report = convert(model, [file], tmp_path / "weights", ema=ema)
    assert {c.component for c in report.components} == {"vision_unet", "vision_codec", "clip_text"}
    scale = 2 if ema else 1
    assert same(
        leaves(tmp_path / "weights", "vision_unet"),
        {path: leaf * scale for path, leaf in held(params, "vision_unet").items()},
    )
    for component in ("vision_codec", "clip_text"):
        assert same(leaves(tmp_path / "weights", component), held(params, component))
    assert read_meta(str(tmp_path / "weights" / "vision_unet"))["ema"] is ema
    assert ("moving averages, which --ema reads" in str(report)) is not ema


def test_averages_of_a_file_that_has_none_are_an_error(sd, tmp_path):
    model, _, state = sd
    file = save(tmp_path / "pruned.ckpt", {key: value for key, value in state.items() if "model_ema" not in key})
    with pytest.raises(ConfigError, match=r"pruned\.ckpt: it has no moving averages .* without --ema"):
        convert(model, [file], tmp_path / "weights", ema=True)
    assert not (tmp_path / "weights").exists()


@pytest.mark.parametrize("seed", [-1, 1 << 64])
def test_another_seed_is_refused_before_anything_is_written(sd, tmp_path, seed):
    model, _, state = sd
    file = save(tmp_path / "sd.ckpt", state)
    with pytest.raises(ConfigError, match=rf"^--seed: expected 0 or more and at most 64 bits, got {seed}$"):
        convert(model, [file], tmp_path / "weights", seed=seed)
    assert not (tmp_path / "weights").exists()


def test_parts_of_a_file_are_read_alone(sd, tmp_path):
    """So that a file of which one part is of another kind gives the others."""
    model, params, state = sd
    wide = np.concatenate([state[STEM], np.zeros((state[STEM].shape[0], 5, 3, 3), np.float32)], axis=1)
    file = save(tmp_path / "inpainting.ckpt", state | {STEM: wide})
    with pytest.raises(ConfigError) as error:
        convert(model, [file], tmp_path / "weights")
    assert str(error.value) == (
        f"{file}: Stable Diffusion 1.x, one file (U-Net, autoencoder, CLIP text tower): vision_unet: has other sizes "
        "than the model, so take another file or config: "
        "input channels 9 (inpainting), the model's 4; without it: --only=vision_codec,clip_text"
    )
    assert not (tmp_path / "weights").exists()
    report = convert(model, [file], tmp_path / "weights", only=["vision_codec", "clip_text"])
    assert {c.component for c in report.components} == {"vision_codec", "clip_text"}
    assert same(leaves(tmp_path / "weights", "vision_codec"), held(params, "vision_codec"))
    assert "of vision_unet, which this model does not have or --only leaves out" in str(report)
    with pytest.raises(ConfigError, match=r"--only: no component unet, vae; this model has .*vision_codec"):
        convert(model, [file], tmp_path / "weights", only=["unet", "vae"])
    with pytest.raises(ConfigError, match=r"no component of this model found; .*--only leaves out"):
        convert(model, [file], tmp_path / "weights", only=["vocoder"])


def test_files_of_the_release_are_read_in_part(tmp_path):
    model = paper.codi()
    directories = paper.components(model, tmp_path / "components", np.float16)
    export(model, directories, tmp_path / "files")
    report = convert(model, [tmp_path / "files" / "CoDi_encoders.pth"], tmp_path / "weights", only=["vocoder"])
    assert [c.component for c in report.components] == ["vocoder"]
    assert "of vision_codec, which --only leaves out" in str(report)


def test_shards_give_the_same_components(sd, tmp_path):
    model, params, state = sd
    folder = tmp_path / "sharded"
    folder.mkdir()
    keys = list(state)
    names = [f"sd-{n:05d}-of-00003.safetensors" for n in (1, 2, 3)]
    parts = {name: {key: np.ascontiguousarray(state[key]) for key in keys[n::3]} for n, name in enumerate(names)}
    for name, part in parts.items():
        save_file(part, folder / name)
    where = {key: name for name, part in parts.items() for key in part}
    index = folder / "sd.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": where}))
    for n, given in enumerate(([folder], [index], [folder / name for name in names])):
        convert(model, given, tmp_path / f"weights{n}", only=["vision_codec"])
        assert same(leaves(tmp_path / f"weights{n}", "vision_codec"), held(params, "vision_codec"))
    (folder / names[1]).unlink()
    with pytest.raises(ConfigError, match=f"1 of its 3 files are missing: {names[1]}"):
        convert(model, [folder], tmp_path / "weights")
