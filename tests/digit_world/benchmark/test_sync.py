"""Synchrony of real samples, which are in step, and of shuffled ones, which are not."""

import numpy as np
import pytest

from codi_jax.digit_world import DigitWorld, WorldConfig
from codi_jax.digit_world.benchmark import sync

N = 48


@pytest.fixture(scope="module")
def world():
    batch = DigitWorld(WorldConfig("test", size=N, modalities=("audio", "video"))).read(range(N))
    video = np.clip(np.rint((batch["video"] + 1) * 127.5), 0, 255).astype(np.uint8)
    return {"audio": np.rint(batch["audio"] * 32767).astype(np.int16), "video": video}, batch["factors"]


def evaluated(values, factors):
    """Samples of an evaluation whose outputs are real: in step in the set, from other samples alone."""
    alone = {"audio": np.roll(values["audio"], 5, axis=0), "video": values["video"]}
    return {
        "real": {"seen": {"values": values, "factors": factors}},
        "codec": {name: {"values": x} for name, x in values.items()},
        "joint": {"audio+video": {"values": values}, "text+audio": {"values": {}}},
        "independent": {"values": alone},
        "matrix": {
            "audio->video": {"values": values["video"]},
            "video->audio": {"values": alone["audio"]},
            "text->video": {"values": values["video"]},
        },
    }


def test_real_pairs_are_in_step_and_shuffled_ones_by_chance(world):
    out = sync.measure(evaluated(*world))
    assert list(out["sets"]) == ["audio+video"] and list(out["prompted"]) == ["audio->video", "video->audio"]
    cell = out["sets"]["audio+video"]
    for row in (out["real"], out["codec"], cell["joint"]):
        assert row["n"] == N and row["same_frame"] > 0.95 and row["offset_ms"] < 5 and row["unread"] < 0.05
        assert row["same_frame_interval"][0] < row["same_frame"] and row["offset_interval"][0] < row["offset_ms"]
    for kind in ("independent", "shuffled"):
        assert cell[kind]["same_frame"] < 0.4 and cell[kind]["offset_ms"] > 100
    assert cell["chance"]["same_frame"] == pytest.approx(1 / 6, abs=0.05)  # one of six frames
    assert cell["chance"]["adjacent_frame"] == pytest.approx(16 / 36, abs=0.08)
    prompted = out["prompted"]
    assert prompted["audio->video"]["prompted"]["same_frame"] == prompted["audio->video"]["ceiling"]["same_frame"] == 1
    assert prompted["video->audio"]["prompted"]["same_frame"] < 0.4 < prompted["video->audio"]["ceiling"]["same_frame"]
    assert prompted["audio->video"]["shuffled"]["same_frame"] < 0.4


def test_rows_are_shown_in_one_order(world):
    out = sync.measure(evaluated(*world))
    expected = [("real", ""), ("real", "codec"), *(("audio+video", k) for k in ("joint", "independent"))]
    assert [line[:2] for line in sync.lines(out)][:4] == expected
    del out["codec"]
    assert ("real", "codec") not in [line[:2] for line in sync.lines(out)]


def test_a_row_by_hand():
    a = np.array([0.1875, 0.3125, 0.4375, np.nan])
    row = sync.row((a, np.array([0.1875, 0.4375, 0.9375, 0.4375])))  # 0, 1 and 4 frames apart
    assert row["same_frame"] == 0.25 and row["adjacent_frame"] == 0.5 and row["unread"] == 0.25
    assert row["offset_ms"] == pytest.approx(5 / 3 * 125)
    nothing = sync.row((np.full(4, np.nan), np.zeros(4)))
    assert nothing["offset_ms"] is None and nothing["offset_interval"] is None and nothing["unread"] == 1
    assert sync.event_times(np.array([1, -1])).tolist()[0] == 0.1875 and np.isnan(sync.event_times(np.array([-1])))[0]


def test_a_model_without_audio_or_video_has_no_synchrony(world):
    values, factors = world
    assert sync.measure({"real": {"seen": {"values": {"video": values["video"]}, "factors": factors}}}) == {}
