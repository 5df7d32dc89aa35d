"""The release's files and others in, the release's files out: to the last bit, or one line that says what is wrong."""

import os
import pickle
import zipfile

import numpy as np
import pytest

from codi_jax.checkpoint import CheckpointReader, load_params, save_params
from codi_jax.config import ConfigError
from codi_jax.interop import release
from codi_jax.interop.convert import convert
from codi_jax.interop.export import export
from codi_jax.interop.tensors import Item, open_state, write_pth
from tests.interop import paper


def write(path, state, ties=()):
    tensors = [Item(k, v.shape, v.dtype, lambda v=v: np.asarray(v)) for k, v in state.items() if k not in dict(ties)]
    write_pth(path, tensors, dict(ties))


def exported(folder, dtype):
    model = paper.codi()
    made = paper.components(model, folder / "made", dtype)
    export(model, made, folder / "files")
    return model, made, sorted((folder / "files").iterdir())


@pytest.fixture(scope="module")
def half(tmp_path_factory):
    """A model, its components and the release's files of them, in half precision; to be read only."""
    return exported(tmp_path_factory.mktemp("half"), np.float16)


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_files_become_components_and_files_again_to_the_last_bit(half, dtype, tmp_path):
    model, made, files = half if dtype is np.float16 else exported(tmp_path, dtype)
    assert [f.name for f in files] == sorted(release.FILES)
    report = convert(model, files, tmp_path / "weights")
    assert {c.component for c in report.components} == set(made)
    assert not report.ignored and not any(c.initialized for c in report.components)
    for component, directory in made.items():
        a, b = CheckpointReader(str(directory)), CheckpointReader(str(tmp_path / "weights" / component))
        assert a.shapes == b.shapes
        for path in a.shapes:
            np.testing.assert_array_equal(a.read(path), b.read(path), strict=True)
    export(model, {c: tmp_path / "weights" / c for c in made}, tmp_path / "again")
    for file in files:
        there, back = open_state(file), open_state(tmp_path / "again" / file.name)
        assert list(there) == list(back)
        for key, value in there.items():
            np.testing.assert_array_equal(back[key], value, strict=True)
    assert "optimus.decoder.lm_head.weight" in open_state(files[0].parent / "CoDi_encoders.pth")


def test_any_subset_of_the_files_will_do(half, tmp_path):
    model, _, files = half
    (sound,) = (f for f in files if "audio" in f.name)
    report = convert(model, [sound], tmp_path / "weights")
    assert {c.component for c in report.components} == {"audio_unet", "audio_environment", "audio_cross"}
    assert sorted(p.name for p in (tmp_path / "weights").iterdir()) == [
        "audio_cross",
        "audio_environment",
        "audio_unet",
    ]


def test_scales_of_the_release_come_with_the_codecs(half, tmp_path):
    model, _, files = half
    convert(model, files, tmp_path / "weights")
    for component, scale in {"vision_codec": 0.18215, "audio_codec": 0.9228, "text_codec": 4.3108}.items():
        constants = load_params(str(tmp_path / "weights" / component))["constants"][component]
        np.testing.assert_array_equal(constants["scale"], np.float32(scale))
        np.testing.assert_array_equal(constants["shift"], 0)


def test_picture_and_clip_of_their_own_are_both_read_and_go_back_if_they_agree(half, tmp_path):
    files = half[2]
    apart = paper.codi("compat=true")
    convert(apart, files, tmp_path / "weights")
    names = [c for c in apart.component_names() if c.endswith(("_environment", "_cross"))]
    assert {"image_environment", "video_environment", "image_cross", "video_cross"} < set(names)
    where = {c: tmp_path / "weights" / c for c in apart.component_names()}
    export(apart, where, tmp_path / "again")
    for file in files:
        back = open_state(tmp_path / "again" / file.name)
        assert all(np.array_equal(value, back[key]) for key, value in open_state(file).items())
    other = paper.components(apart, tmp_path / "other", np.float16, seed=1)
    with pytest.raises(ConfigError, match=r"image_cross and video_cross differ in .*, of which .* has but one"):
        export(apart, {**where, "image_cross": other["image_cross"]}, tmp_path / "no")


def test_nothing_is_written_unless_all_is_well(half, tmp_path):
    model, _, files = half
    for file in files:
        state = {key: np.array(value) for key, value in open_state(file).items()}
        if "audio" in file.name:
            key = next(k for k in state if k.endswith("out.2.weight"))
            state[key][0, 0, 0, 0] = np.nan
            del state[key.replace("weight", "bias")]
            write(tmp_path / file.name, state)
    broken = [f if "audio" not in f.name else tmp_path / f.name for f in files]
    with pytest.raises(ConfigError) as error:
        convert(model, broken, tmp_path / "weights")
    assert "missing: out.2.bias (our head/layer/bias)" in str(error.value)
    assert "not finite: out.2.weight" in str(error.value)
    assert "\n" not in str(error.value)
    assert not (tmp_path / "weights").exists()


def test_older_files_lack_what_is_then_initialised_and_named(half, tmp_path):
    model, _, files = half
    (sound,) = (f for f in files if "audio" in f.name)
    state = {k: np.array(v) for k, v in open_state(sound).items()}
    last = max(int(k.split("connecters_out.")[1].split(".")[0]) for k in state if "connecters_out." in k)
    write(tmp_path / "old.pth", {k: v for k, v in state.items() if f"connecters_out.{last}." not in k})
    report = convert(model, [tmp_path / "old.pth"], tmp_path / "weights")
    (v,) = (c for c in report.components if c.component == "audio_environment")
    assert v.initialized and all(path.startswith("head/") for path in v.initialized)
    assert "initialised in audio_environment, since the files do not hold it: head/" in str(report)
    leaves = CheckpointReader(str(tmp_path / "weights" / "audio_environment"))
    assert np.all(np.isfinite(leaves.read("params/audio_environment/head/layer/kernel")))


def test_the_same_key_in_two_files_is_refused(half, tmp_path):
    model, _, files = half
    with pytest.raises(ConfigError, match=r"keys, .* the first, are in another of the files, too"):
        convert(model, [files[0], files[0]], tmp_path / "weights")


def test_a_file_of_nothing_we_know_is_refused_by_name(tmp_path):
    write(tmp_path / "strange.pth", {"a.b": np.zeros(3, np.float32)})
    with pytest.raises(ConfigError, match=r"strange\.pth: a file of no known layout"):
        convert(paper.codi(), [tmp_path / "strange.pth"], tmp_path / "weights")


def test_a_malicious_file_is_refused_and_nothing_in_it_runs(tmp_path):
    class Attack:
        def __reduce__(self):
            return os.system, (f"touch {tmp_path}/ran",)

    with zipfile.ZipFile(tmp_path / "evil.pth", "w") as archive:
        archive.writestr("archive/data.pkl", pickle.dumps({"autokl.encoder.conv_in.weight": Attack()}, protocol=2))
    with pytest.raises(ConfigError, match=r"evil\.pth: refused"):
        convert(paper.codi(), [tmp_path / "evil.pth"], tmp_path / "weights")
    assert not (tmp_path / "ran").exists()


def test_what_was_trained_with_latent_statistics_of_its_own_is_not_exported(tmp_path):
    model = paper.codi()
    made = paper.components(model, tmp_path / "made")
    saved = load_params(str(made["vision_codec"]))
    saved["constants"]["vision_codec"]["shift"] = saved["constants"]["vision_codec"]["shift"] + 1
    save_params(str(made["vision_codec"]), saved, {"components": ["vision_codec"]})
    with pytest.raises(ConfigError, match="vision_codec: its shift is not the release's"):
        export(model, made, tmp_path / "files")
