"""Memorisation of outputs that are training samples, and of those that are not."""

import dataclasses
from types import SimpleNamespace

import numpy as np
import pytest

from codi_jax.data.source import make_source
from codi_jax.digit_world import DigitWorld, WorldConfig
from codi_jax.digit_world.benchmark import memory
from codi_jax.digit_world.benchmark.samples import array
from tests import toy

N, POOL = 24, 96


def values(source, n=N):
    rows, codi = source.read(range(n)), toy.codi()
    return {name: array(codi[name].raw_from_batch(rows)) for name in toy.PAIR}


@pytest.fixture(scope="module")
def sources():
    """The pool, another of the same distribution, and test samples."""
    pool, fresh = (DigitWorld(WorldConfig("train", size=POOL, seed=seed)) for seed in (1, 2))
    return pool, fresh, DigitWorld(WorldConfig("test", size=POOL))


def evaluated(sources):
    """Samples of an evaluation whose outputs are training samples alone, and test samples in the set."""
    pool, _, test = sources
    cell = lambda x: {"values": x, "read": {name: {"digit": np.zeros(N, int)} for name in x}}  # noqa: E731
    return {
        "real": {"seen": {"values": values(test)}},
        "joint": {"text+image": cell(values(test))},
        "independent": cell(values(pool)),
    }


def test_training_samples_are_found_and_test_samples_are_not(sources, monkeypatch):
    monkeypatch.setattr(memory, "CHUNK", 40)
    pool, fresh, _ = sources
    out = memory.measure(toy.codi(), "image", memory.Training((pool,), fresh, None), evaluated(sources), 1000)
    rows = out["outputs"]
    assert out["training"] == POOL and set(rows) == {"real", "independent", "text+image", "fresh"}
    assert rows["independent"] == {
        **{"n": N, "median": 0, "ratio": 0, "near_1": 1, "near_5": 1},
        **{"near_1_interval": rows["independent"]["near_1_interval"]},
        **{"near_5_interval": rows["independent"]["near_1_interval"]},
    }
    assert rows["text+image"] == rows["real"] and rows["real"]["ratio"] == 1 and rows["real"]["near_5"] <= 0.1
    assert 0.7 < rows["fresh"]["ratio"] < 1.1
    assert "96 training samples" in memory.summary(out) and "independent 0.00x real" in memory.summary(out)


def test_the_number_of_training_samples_is_limited(sources):
    pool, _, _ = sources
    of = memory.Training((pool, pool), None, None)
    out = memory.measure(toy.codi(), "image", of, evaluated(sources), N // 2)
    assert out["training"] == N and "fresh" not in out["outputs"]
    found = out["outputs"]["independent"]
    assert found["near_1"] >= 0.5 and found["median"] < out["outputs"]["real"]["median"]


def test_captions_are_looked_up_word_by_word(sources):
    pool, _, _ = sources
    validation = DigitWorld(WorldConfig("val", size=POOL, modalities=("text",)))
    of = memory.Training((pool,), None, validation)
    out = memory.measure(toy.codi(), "text", of, evaluated(sources), 1000)
    assert out["outputs"]["independent"]["verbatim"] == 1
    assert out["outputs"]["real"]["verbatim"] == out["outputs"]["text+image"]["verbatim"] == 0  # unseen wordings
    assert out["outputs"]["validation"]["verbatim"] < 0.5 and out["outputs"]["validation"]["interval"][1] < 1
    assert "validation" in memory.summary(out)


def test_the_pools_of_a_denoiser_are_found_through_the_stages_that_encode_them():
    world = {"name": "digit_world", "split": "train", "size": 8, "seed": 7, "modalities": ("text", "image")}
    test = {**world, "split": "test", "seed": 2}
    stage = lambda objective, *of, source: SimpleNamespace(objective=objective, modalities=of, source=source)  # noqa: E731
    config = SimpleNamespace(
        sources={"a": world, "b": {**world, "seed": 8}, "test": test},
        stages={
            "encode": {name: stage("encode", "text", "image", source=name) for name in ("a", "b")},
            "ldm": {
                "image": stage("ldm", "image", "text", source="encode.b"),
                "text": stage("ldm", "text", "image", source=("encode.a", "encode.b")),
            },
        },
        evaluate={"seen": "test"},
    )
    found = memory.training(config, ("text", "image"))
    assert [p.config.seed for p in found["text"].pools] == [7, 8] and found["text"].fresh is None
    assert found["text"].validation.config.split == "val" and found["text"].validation.config.wordings == "trained"
    (pool,) = found["image"].pools
    assert pool.config.seed == 8 and found["image"].validation is None
    assert found["image"].fresh.config == dataclasses.replace(pool.config, seed=8 + memory.FRESH_SEED)
    assert list(memory.training(config, ("image",))) == ["image"]


def test_of_other_sources_there_are_no_further_samples(tmp_path):
    np.savez(tmp_path / "mine.npz", image=np.zeros((4, 2)))
    mine = {"name": "arrays", "path": str(tmp_path / "mine.npz")}
    config = SimpleNamespace(
        sources={"mine": mine},
        stages={"ldm": {"image": SimpleNamespace(objective="ldm", modalities=("image",), source="mine")}},
        evaluate={"seen": "mine"},
    )
    found = memory.training(config, ("image",))["image"]
    assert len(found.pools[0]) == len(make_source(mine)) == 4 and found.fresh is None
