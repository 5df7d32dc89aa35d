"""What an evaluation measures, with which draws, and its record."""

import dataclasses
import subprocess

import jax
import numpy as np
import pytest

from codi_jax.cli import evaluate as verb
from codi_jax.config import ConfigError, from_dict
from codi_jax.digit_world import checkout
from codi_jax.digit_world.benchmark import settings
from codi_jax.digit_world.benchmark.config import EvaluateConfig
from codi_jax.digit_world.benchmark.settings import PARTS, Scope, key_of_draws, record, resolve, with_n
from codi_jax.packaged import DEFAULT, open_package
from codi_jax.presets import demo
from codi_jax.presets.digit_world import recipe
from codi_jax.rng import fold
from codi_jax.train.recipe import RunConfig, open_run
from tests import toy

VAL = Scope("val")


def config(**evaluate):
    it = from_dict(RunConfig, toy.config())
    return dataclasses.replace(it, evaluate={**it.evaluate, **evaluate})


def draws(scope=settings.WHOLE, seed=0):
    return jax.random.key_data(key_of_draws(EvaluateConfig(seed=seed), scope)).tolist()


def test_draws_depend_on_the_split_and_the_sampling_seed_alone():
    key = fold(jax.random.key(3), "evaluate", "val")
    assert draws(VAL, 3) == jax.random.key_data(key).tolist() == draws(Scope("val", ("joint",)), 3)
    every = [draws(scope, seed) for scope in (settings.WHOLE, VAL) for seed in (0, 1, 1 << 40)]
    assert len({tuple(key) for key in every}) == len(every)


def test_the_split_names_the_samples():
    test, val = resolve(config(), settings.WHOLE), resolve(config(), VAL)
    assert (test.seen, test.held_out) == ("test_seen", "test_held_out")
    assert (val.seen, val.held_out) == ("val", None)
    assert resolve(config(validation="test"), VAL).seen == "test"
    with pytest.raises(ConfigError, match=r"^config\.evaluate\.validation: None is no source of this run, which has "):
        resolve(config(validation=None), VAL)
    without = config()
    del without.sources["val"]
    with pytest.raises(ConfigError, match=r"'val' is no source of this run, .*evaluate\.validation=NAME names one"):
        resolve(without, VAL)
    assert resolve(without, settings.WHOLE) == test


@pytest.mark.parametrize("preset", [demo.run, recipe.run])
def test_presets_have_validation_samples_of_their_own_split(preset):
    it = preset()
    source = it.sources[resolve(it, VAL).seen]
    assert source["split"] == "val" and source["size"] >= it.evaluate["n"] + it.evaluate["reference"]


def test_a_package_from_before_the_field_has_them():
    package = open_package(DEFAULT)
    assert "validation" not in package.run["evaluate"]
    assert resolve(open_run(package.run, None).config, VAL).seen == "val"


def test_what_is_not_in_the_scope_is_switched_off():
    it = config(mixes=("text|image->image",), n=12)
    assert resolve(it, settings.WHOLE).mixes and resolve(it, settings.WHOLE).pretrained
    off = resolve(it, Scope(parts=("joint",)))
    assert (off.combinations, off.held_out, off.mixes, off.pretrained) == (0, None, (), 0)
    only = resolve(it, Scope(parts=("mix", "held_out")))
    assert only.mixes and only.held_out and not only.combinations
    few = config(mixes=("text|image->image",), n=8)  # a curve is impossible, the rest is not
    assert resolve(few, Scope(parts=("joint",))).n == 8
    with pytest.raises(ConfigError, match="a curve needs n >= 11, got 8"):
        resolve(few, settings.WHOLE)


@pytest.mark.parametrize(
    ("split", "parts", "message"),
    [
        ("train", tuple(PARTS), "split: expected one of test, val, got 'train'"),
        ("test", ("joints",), r"parts: no part 'joints' \(did you mean joint\?\); there are real, codec, "),
        ("test", (), "parts: expected some of real, codec, "),
        ("val", ("held_out",), "parts: held_out: the split val has no held-out combinations"),
        (
            "test",
            ("combinations",),
            r"parts: combinations: nothing to measure, config\.evaluate\.combinations is ",
        ),
        ("test", ("real", "pretrained"), "parts: pretrained: the judges read the samples of directions and joint"),
    ],
)
def test_an_impossible_scope_is_one_line(split, parts, message):
    with pytest.raises(ConfigError, match=f"^{message}"):
        resolve(config(combinations=0), Scope(split, parts))


def test_another_n_clips_the_combinations():
    assert with_n({"n": 12, "combinations": 6}, 5) == {"n": 5, "combinations": 5}
    assert with_n({"combinations": 2, "seen": "a"}, 64) == {"n": 64, "combinations": 2, "seen": "a"}
    assert with_n({}, 4)["combinations"] == 4 and with_n({}, 9)["combinations"] == EvaluateConfig.combinations


def test_a_seed_out_of_range_is_an_error():
    with pytest.raises(ConfigError, match=r"config\.evaluate\.seed: expected 0 or more and at most 64 bits, got -1"):
        EvaluateConfig(seed=-1)


def test_the_record_says_how_the_numbers_were_made(monkeypatch):
    monkeypatch.setattr(checkout, "commit", lambda: "abc-dirty")
    it = dataclasses.replace(config(seed=5), seed=7)
    scope = Scope("val", ("joint", "real"))
    says = record(toy.codi(), it, resolve(it, scope), scope)
    assert {**says, "generate": 0, "evaluate": 0} == {
        **{"split": "val", "seed": 5, "training_seed": 7, "parts": ["real", "joint"], "commit": "abc-dirty"},
        **{"generate": 0, "evaluate": 0},
    }
    assert says["generate"].keys() == {
        *("guidance", "delay", "steps", "sampler", "eta", "spacing", "environment", "environment_weights"),
    }
    assert says["generate"]["guidance"]["image"] == {
        **{"prompt": 4.0, "environment": 8.0, "low": 0.3, "high": 1.0},
        **{"rescale": 0.0, "parallel": 1.0, "limit": 1.0},
    }
    assert says["generate"]["delay"] == {"text": 0, "image": 5}
    assert says["evaluate"].keys() == {
        *("seen", "held_out", "factors", "combinations", "mixes", "pretrained", "neighbours", "judges", "reference"),
    }
    assert says["evaluate"]["seen"] == "val"
    assert record(toy.codi(), it, resolve(it, settings.WHOLE), settings.WHOLE)["parts"] == "all"


def test_metrics_from_before_the_record_are_of_the_whole_test():
    assert settings.samples_of({"n": 3}) == "test" and not settings.why_no_verdict({"n": 3})
    assert "validation samples" in settings.why_no_verdict({"split": "val"})
    assert settings.why_no_verdict({"split": "test", "parts": ["real", "joint"]}).endswith("measured (real, joint).")


def test_the_help_lists_the_parts():
    assert tuple(verb.PARTS.split(", ")) == tuple(PARTS)


def test_the_commit_is_the_last_that_changed_this_package(monkeypatch, tmp_path):
    git = ["git", "-C", str(tmp_path), "-c", "user.name=a", "-c", "user.email=a@b"]
    package = tmp_path / "lib"
    package.mkdir()
    monkeypatch.setattr(checkout, "PACKAGE", package)
    assert checkout.commit() == ""  # no checkout
    (package / "__init__.py").write_text("")
    (tmp_path / "other").write_text("")
    for command in (["init", "-q"], ["add", "other"], ["commit", "-qm", "a checkout of something else"]):
        subprocess.run([*git, *command], check=True)
    assert checkout.commit() == ""
    for command in (["add", "lib"], ["commit", "-qm", "the package"]):
        subprocess.run([*git, *command], check=True)
    head = subprocess.run([*git, "rev-parse", "HEAD"], check=True, capture_output=True, text=True).stdout.strip()
    assert checkout.commit() == head and len(head) == 40
    (tmp_path / "other").write_text("results")
    assert checkout.commit() == head
    subprocess.run([*git, "commit", "-qam", "results"], check=True)
    assert checkout.commit() == head
    (package / "__init__.py").write_text("changed")
    assert checkout.commit() == f"{head}-dirty"
    monkeypatch.setenv("PATH", str(tmp_path))
    assert checkout.commit() == ""  # no git


def test_complete_settings_of_generation_say_the_same():
    it = config().generate
    complete = it.complete(("text", "image", "audio"))
    assert list(complete.guidance) == ["text", "image", "audio"]
    assert complete.delay == {"text": 0, "image": 5, "audio": 0}
    assert {name: complete.guidance[name] for name in it.guidance} == it.guidance
    assert complete == complete.complete(("text", "image")) and np.isclose(complete.guidance["audio"].low, 0)
    some = it.only(("audio", "image"))
    assert [*some.guidance] == [*some.delay] == [*some.environment_weights] == ["audio", "image"]
    assert (some.delay["image"], some.guidance["audio"]) == (5, complete.guidance["audio"])
