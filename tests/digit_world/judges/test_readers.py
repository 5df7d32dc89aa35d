"""Readers: captions without a factor, judges in batches of one size, packaged preprocessing."""

from types import SimpleNamespace

import jax
import numpy as np
import pytest

from codi_jax import digit_world, packaged
from codi_jax.codi import CoDi
from codi_jax.config import ConfigError
from codi_jax.digit_world import judges
from codi_jax.digit_world.judges.readers import JudgeReader, ParserReader, make_readers
from codi_jax.metrics.agreement import UNREAD
from tests import toy


class ImageStub:
    """The part of a modality that a judge uses."""

    def preprocess(self, values):
        return np.stack(values)

    def codec_input(self, media):
        return media


def judge_and_params():
    judge = judges.Judge(judges.JudgeConfig({"digit": 10, "colour": 6}, channels=(8,), features=5))
    return judge, judge.init(jax.random.key(0), np.zeros((1, 4, 4, 3), np.float32))["params"]


def test_a_factor_that_a_caption_names_twice_or_not_at_all_is_unread():
    read = ParserReader(digit_world.READERS["text"], ("digit", "colour"))
    reading = read(["a red seven", "a red seven 7", "something red", "a seven", "", "red green 3"])
    assert reading.factors["digit"].tolist() == [7, UNREAD, UNREAD, 7, UNREAD, 3]
    assert reading.factors["colour"].tolist() == [0, 0, 0, UNREAD, UNREAD, UNREAD]
    assert reading.features is None


def test_readings_do_not_depend_on_the_batch_size():
    judge, params = judge_and_params()
    values = list(np.random.default_rng(0).normal(size=(7, 4, 4, 3)).astype(np.float32))
    small = JudgeReader(ImageStub(), judge, params, ("digit", "colour"), 3)
    whole = JudgeReader(ImageStub(), judge, params, ("digit", "colour"), 7)
    a, b = small(values), whole(values)
    assert small._program._cache_size() == 1
    assert a.features.shape == (7, 5)
    np.testing.assert_allclose(a.features, b.features, atol=1e-5)
    for factor in ("digit", "colour"):
        np.testing.assert_array_equal(a.factors[factor], b.factors[factor])


def test_the_frames_of_a_video_are_channels_of_its_judge():
    judge = judges.Judge(judges.JudgeConfig({"digit": 10, "motion": 4}, channels=(8,), features=5))
    videos = np.random.default_rng(0).normal(size=(2, 8, 4, 6, 3)).astype(np.float32)
    params = judge.init(jax.random.key(0), videos)["params"]
    assert params["Conv_0"]["kernel"].shape == (3, 3, 24, 8)
    # Channel 3k + c is colour c of frame k.
    stacked = np.stack([videos[:, k, :, :, c] for k in range(8) for c in range(3)], axis=-1)
    assert stacked.shape == (2, 4, 6, 24)
    (factors, features), (same, also) = (judges.read(judge, params, x) for x in (videos, stacked))
    assert set(factors) == {"digit", "motion"} and factors["motion"].shape == (2,)
    np.testing.assert_array_equal(features, also)
    jax.tree.map(np.testing.assert_array_equal, factors, same)
    _, backwards = judges.read(judge, params, videos[:, ::-1])
    assert np.abs(backwards - features).max() > 1e-3  # the order of frames matters


def package(folder, settings, **changes):
    model = toy.model(toy.PAIR)
    model["modalities"]["image"].update(changes)
    params = {"params": {"image_judge": {}, "other": {"w": np.zeros(1)}}}
    packaged.write(folder, {"judges": params}, {"judges": {"model": model, "settings": settings}}, "float32")
    return packaged.open_package(str(folder))


def test_missing_judges_are_errors(tmp_path):
    codi = toy.codi()
    with pytest.raises(ConfigError, match=r"no judge reads image; the judges of .* read audio"):
        make_readers(codi, package(tmp_path, {"audio": {}}), 4)
    with pytest.raises(ConfigError, match="does not read its colour"):
        make_readers(codi, package(tmp_path, {"image": {"factors": {"digit": 10}}}), 4)
    with pytest.raises(ConfigError, match="digit_world has no smell"):
        make_readers(SimpleNamespace(modalities={"smell": None}), package(tmp_path, {}), 4)
    factors = {"image": {"factors": {"digit": 10, "colour": 6}}}
    with pytest.raises(ConfigError, match=r"judges\.safetensors: lacks image_judge; write it again"):
        make_readers(codi, package(tmp_path, factors), 4)


def test_values_of_another_size_are_an_error(tmp_path):
    large = {**toy.model()["modalities"]["image"], "size": 64}
    large["prompt"] = {**large["prompt"], "image_size": 64}
    judges_of_large = package(tmp_path, {"image": toy.JUDGE}, **large)
    with pytest.raises(ConfigError, match="the judge of image reads size 64; this model generates size 32"):
        make_readers(toy.codi(), judges_of_large, 4)


def test_value_formats():
    codi = toy.codi(*toy.EVERYTHING)
    assert {name: modality.value_format for name, modality in codi.modalities.items()} == {
        "text": {},
        "image": {"size": 32},
        "audio": {"samples": 8192, "rate": 8000},
        "video": {"size": 32, "frames": 8, "rate": 8.0},
    }


def test_a_judge_uses_the_preprocessing_of_its_package(tmp_path):
    """The spectrogram settings of the evaluated model do not matter."""
    reference_config, settings = toy.model(toy.EVERYTHING), {"factors": {"digit": 10}, "channels": (8,), "features": 5}
    judge = judges.Judge(judges.JudgeConfig({"digit": 10}, channels=(8,), features=5))
    params = judge.init(jax.random.key(0), np.zeros((1, 64, 64, 1), np.float32))["params"]
    config = {"judges": {"model": reference_config, "settings": {"audio": settings}}}
    packaged.write(tmp_path, {"judges": {"params": {"audio_judge": params}}}, config, "float32")
    packaged_judge = packaged.open_package(str(tmp_path))
    other_config = toy.model(("text", "audio"))
    other_config["modalities"]["audio"].update(shift=-1.0, scale=3.0)
    waves = list((np.random.default_rng(0).normal(size=(3, 8192)) * 3000).astype(np.int16))
    reference = CoDi.from_config(reference_config)["audio"]
    logits, features = judge.apply({"params": params}, reference.preprocess(waves))
    for model in (reference_config, other_config):
        audio = CoDi.from_config(model)["audio"]
        (read,) = make_readers(SimpleNamespace(modalities={"audio": audio}), packaged_judge, 2, ("digit",)).values()
        reading = read(waves)
        np.testing.assert_allclose(reading.features, features, atol=1e-5)
        np.testing.assert_array_equal(reading.factors["digit"], np.argmax(logits["digit"], -1))
    assert np.abs(audio.preprocess(waves) - reference.preprocess(waves)).max() > 1


def test_measured_factors_replace_those_of_the_judge():
    judge, params = judge_and_params()
    values = list(np.random.default_rng(0).normal(size=(5, 4, 4, 3)).astype(np.float32))
    by_judge = JudgeReader(ImageStub(), judge, params, ("digit", "colour"), 3)(values)
    bright = lambda x: {"colour": (x.mean((1, 2, 3)) > 0).astype(np.int64), "size": x[:, 0, 0, 0]}  # noqa: E731
    reading = JudgeReader(ImageStub(), judge, params, ("digit", "colour"), 3, bright)(values)
    assert set(reading.factors) == {"digit", "colour"}
    assert reading.factors["colour"].tolist() == [int(value.mean() > 0) for value in values]
    np.testing.assert_array_equal(reading.factors["digit"], by_judge.factors["digit"])
    np.testing.assert_array_equal(reading.features, by_judge.features)
    assert set(digit_world.MEASURES) == {"video"}
