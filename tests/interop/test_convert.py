"""Converting public files to components and exporting them again is bit-exact; errors are one line."""

import os
import pickle
import zipfile

import numpy as np
import pytest

from codi_jax.checkpoint import CheckpointReader, load_params, save_params
from codi_jax.codi import CoDi
from codi_jax.config import ConfigError
from codi_jax.interop import release
from codi_jax.interop.convert import convert
from codi_jax.interop.export import export
from codi_jax.interop.tensors import open_state
from tests.interop import cases, paper
from tests.interop.files import filled, save


def exported(folder, dtype):
    model = paper.codi()
    directories = paper.components(model, folder / "components", dtype)
    export(model, directories, folder / "files")
    return model, directories, sorted((folder / "files").iterdir())


@pytest.fixture(scope="module")
def half(tmp_path_factory):
    """A model, its component directories and their exported files, in half precision; tests only read them."""
    return exported(tmp_path_factory.mktemp("half"), np.float16)


@pytest.mark.parametrize("dtype", [np.float16, pytest.param(np.float32, marks=pytest.mark.slow)])
def test_convert_and_export_are_bit_exact(half, dtype, tmp_path):
    model, directories, files = half if dtype is np.float16 else exported(tmp_path, dtype)
    assert [f.name for f in files] == sorted(release.FILES)
    report = convert(model, files, tmp_path / "weights")
    assert {c.component for c in report.components} == set(directories)
    assert not report.ignored and not any(c.initialized for c in report.components)
    for component, directory in directories.items():
        a, b = CheckpointReader(str(directory)), CheckpointReader(str(tmp_path / "weights" / component))
        assert a.shapes == b.shapes
        for path in a.shapes:
            np.testing.assert_array_equal(a.read(path), b.read(path), strict=True)
    export(model, {c: tmp_path / "weights" / c for c in directories}, tmp_path / "again")
    for file in files:
        before, after = open_state(file), open_state(tmp_path / "again" / file.name)
        assert list(before) == list(after)
        for key, value in before.items():
            np.testing.assert_array_equal(after[key], value, strict=True)
    assert "optimus.decoder.lm_head.weight" in open_state(files[0].parent / "CoDi_encoders.pth")


def test_a_subset_of_the_files_can_be_converted(half, tmp_path):
    model, _, files = half
    (audio_file,) = (f for f in files if "audio" in f.name)
    report = convert(model, [audio_file], tmp_path / "weights")
    assert {c.component for c in report.components} == {"audio_unet", "audio_environment", "audio_cross"}
    assert sorted(p.name for p in (tmp_path / "weights").iterdir()) == [
        "audio_cross",
        "audio_environment",
        "audio_unet",
    ]


def test_codecs_get_the_latent_scales_of_the_release(half, tmp_path):
    model, _, files = half
    convert(model, files, tmp_path / "weights")
    for component, scale in {"vision_codec": 0.18215, "audio_codec": 0.9228, "text_codec": 4.3108}.items():
        constants = load_params(str(tmp_path / "weights" / component))["constants"][component]
        np.testing.assert_array_equal(constants["scale"], np.float32(scale))
        np.testing.assert_array_equal(constants["shift"], 0)


@pytest.mark.slow
def test_separate_image_and_video_components_are_both_read_and_exported_if_equal(half, tmp_path):
    files = half[2]
    separate = paper.codi("compat=true")
    convert(separate, files, tmp_path / "weights")
    names = [c for c in separate.component_names() if c.endswith(("_environment", "_cross"))]
    assert {"image_environment", "video_environment", "image_cross", "video_cross"} < set(names)
    directories = {c: tmp_path / "weights" / c for c in separate.component_names()}
    export(separate, directories, tmp_path / "again")
    for file in files:
        exported = open_state(tmp_path / "again" / file.name)
        assert all(np.array_equal(value, exported[key]) for key, value in open_state(file).items())
    other = paper.components(separate, tmp_path / "other", np.float16, seed=1)
    with pytest.raises(ConfigError, match=r"image_cross and video_cross differ in .*, of which .* has only one"):
        export(separate, {**directories, "image_cross": other["image_cross"]}, tmp_path / "no")


def test_nothing_is_written_if_a_check_fails(half, tmp_path):
    model, _, files = half
    for file in files:
        state = {key: np.array(value) for key, value in open_state(file).items()}
        if "audio" in file.name:
            key = next(k for k in state if k.endswith("out.2.weight"))
            state[key][0, 0, 0, 0] = np.nan
            del state[key.replace("weight", "bias")]
            save(tmp_path / file.name, state)
    broken = [f if "audio" not in f.name else tmp_path / f.name for f in files]
    with pytest.raises(ConfigError) as error:
        convert(model, broken, tmp_path / "weights")
    assert "missing: out.2.bias (our head/layer/bias)" in str(error.value)
    assert "not finite: out.2.weight" in str(error.value)
    assert "\n" not in str(error.value)
    assert not (tmp_path / "weights").exists()


def test_leaves_that_older_files_lack_are_initialized_and_named(half, tmp_path):
    model, _, files = half
    (audio_file,) = (f for f in files if "audio" in f.name)
    state = {k: np.array(v) for k, v in open_state(audio_file).items()}
    last = max(int(k.split("connecters_out.")[1].split(".")[0]) for k in state if "connecters_out." in k)
    save(tmp_path / "old.pth", {k: v for k, v in state.items() if f"connecters_out.{last}." not in k})
    report = convert(model, [tmp_path / "old.pth"], tmp_path / "weights")
    (v,) = (c for c in report.components if c.component == "audio_environment")
    assert v.initialized and all(path.startswith("head/") for path in v.initialized)
    assert "initialized in audio_environment, since the files do not hold it: head/" in str(report)
    leaves = CheckpointReader(str(tmp_path / "weights" / "audio_environment"))
    assert np.all(np.isfinite(leaves.read("params/audio_environment/head/layer/kernel")))


def test_the_same_key_in_two_files_is_refused(half, tmp_path):
    model, _, files = half
    with pytest.raises(ConfigError, match=r"keys, such as .*, are in another file, too"):
        convert(model, [files[0], files[0]], tmp_path / "weights")


def test_a_file_of_unknown_layout_is_refused(tmp_path):
    save(tmp_path / "strange.pth", {"a.b": np.zeros(3, np.float32)})
    with pytest.raises(ConfigError, match=r"strange\.pth: a file of unknown layout"):
        convert(paper.codi(), [tmp_path / "strange.pth"], tmp_path / "weights")


def test_a_file_of_a_component_that_the_model_does_not_have_is_refused(tmp_path):
    save(tmp_path / "vocoder.pth", filled(cases.GAN))
    model = paper.config().model
    with model.unlocked():
        del model.modalities["audio"]
    with pytest.raises(ConfigError, match=r"no component of this model found; .* of vocoder, which this model does"):
        convert(CoDi.from_config(model), [tmp_path / "vocoder.pth"], tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_malicious_file_is_refused_without_running_it(tmp_path):
    class Attack:
        def __reduce__(self):
            return os.system, (f"touch {tmp_path}/ran",)

    with zipfile.ZipFile(tmp_path / "evil.pth", "w") as archive:
        archive.writestr("archive/data.pkl", pickle.dumps({"autokl.encoder.conv_in.weight": Attack()}, protocol=2))
    with pytest.raises(ConfigError, match=r"evil\.pth: refused"):
        convert(paper.codi(), [tmp_path / "evil.pth"], tmp_path / "weights")
    assert not (tmp_path / "ran").exists()


def test_components_with_other_latent_statistics_are_not_exported(tmp_path):
    model = paper.codi()
    directories = paper.components(model, tmp_path / "components")
    saved = load_params(str(directories["vision_codec"]))
    saved["constants"]["vision_codec"]["shift"] = saved["constants"]["vision_codec"]["shift"] + 1
    save_params(str(directories["vision_codec"]), saved, {"components": ["vision_codec"]})
    with pytest.raises(ConfigError, match="vision_codec: its shift differs"):
        export(model, directories, tmp_path / "files")
