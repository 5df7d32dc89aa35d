"""Reading values back: captions that do not say a factor, judges in batches of one size."""

from types import SimpleNamespace

import jax
import numpy as np
import pytest

from codi_jax.config import ConfigError
from codi_jax.data import digit_world
from codi_jax.evaluate import judges
from codi_jax.evaluate.agreement import UNREAD
from codi_jax.evaluate.readers import Judged, Parsed, make_readers


class Pictures:
    """As much of a modality as a judge needs."""

    def media(self, values):
        return np.stack(values)

    def signal(self, media):
        return media


def judge_and_params():
    judge = judges.Judge(judges.JudgeConfig({"digit": 10, "colour": 6}, channels=(8,), features=5))
    return judge, judge.init(jax.random.key(0), np.zeros((1, 4, 4, 3), np.float32))["params"]


def test_a_caption_that_says_a_factor_twice_or_not_at_all_is_unread():
    read = Parsed(digit_world.READERS["text"], ("digit", "colour"))
    reading = read(["a red seven", "a red seven 7", "something red", "a seven", "", "red green 3"])
    assert reading.factors["digit"].tolist() == [7, UNREAD, UNREAD, 7, UNREAD, 3]
    assert reading.factors["colour"].tolist() == [0, 0, 0, UNREAD, UNREAD, UNREAD]
    assert reading.features is None


def test_batches_of_one_size_change_no_reading():
    judge, params = judge_and_params()
    values = list(np.random.default_rng(0).normal(size=(7, 4, 4, 3)).astype(np.float32))
    small = Judged(Pictures(), judge, params, ("digit", "colour"), 3)
    whole = Judged(Pictures(), judge, params, ("digit", "colour"), 7)
    a, b = small(values), whole(values)
    assert small._program._cache_size() == 1
    assert a.features.shape == (7, 5)
    np.testing.assert_allclose(a.features, b.features, atol=1e-5)
    for factor in ("digit", "colour"):
        np.testing.assert_array_equal(a.factors[factor], b.factors[factor])


def test_a_judge_of_clips_sees_their_frames_as_channels():
    judge = judges.Judge(judges.JudgeConfig({"digit": 10, "motion": 4}, channels=(8,), features=5))
    clips = np.random.default_rng(0).normal(size=(2, 8, 4, 6, 3)).astype(np.float32)
    params = judge.init(jax.random.key(0), clips)["params"]
    assert params["Conv_0"]["kernel"].shape == (3, 3, 24, 8)
    # Channel 3k + c is colour c of frame k.
    stacked = np.stack([clips[:, k, :, :, c] for k in range(8) for c in range(3)], axis=-1)
    assert stacked.shape == (2, 4, 6, 24)
    (factors, features), (same, also) = (judges.read(judge, params, x) for x in (clips, stacked))
    assert set(factors) == {"digit", "motion"} and factors["motion"].shape == (2,)
    np.testing.assert_array_equal(features, also)
    jax.tree.map(np.testing.assert_array_equal, factors, same)
    _, backwards = judges.read(judge, params, clips[:, ::-1])
    assert np.abs(backwards - features).max() > 1e-3  # it sees which frame comes first


def test_what_nothing_reads_is_one_line():
    codi = SimpleNamespace(modalities={"image": Pictures()})
    stage = SimpleNamespace(objective="judge", modalities=("image",), settings={"factors": {"digit": 10}})
    with pytest.raises(ConfigError, match="nothing reads image"):
        make_readers(codi, [], {}, 4)
    with pytest.raises(ConfigError, match="nothing reads image"):
        make_readers(codi, [stage], {}, 4)  # it has not run
    with pytest.raises(ConfigError, match="does not read its colour"):
        make_readers(codi, [stage], {"image_judge": {}}, 4)
    with pytest.raises(ConfigError, match="digit_world has no smell"):
        make_readers(SimpleNamespace(modalities={"smell": None}), [], {}, 4)
