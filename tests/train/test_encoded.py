"""Samples of several `encode` stages, one after the other, and what a stage's samples depend on."""

import dataclasses

import numpy as np
import pytest

from codi_jax.config import ConfigError
from codi_jax.data.arrays import Arrays
from codi_jax.data.source import read_batch
from codi_jax.presets.digit_world import recipe as digit_world
from codi_jax.train import encoded
from codi_jax.train.encoded import EncodedSamples
from codi_jax.train.program import objective_of
from codi_jax.train.recipe import Run, open_run
from tests import toy

ENCODE = "encode.text+image"


def part(size, start, *names):
    """Moments and prompts that count up from `start`, and null prompts."""
    arrays = {
        name: {
            "mean": np.arange(start, start + size, dtype=np.float32)[:, None] + np.zeros((1, width), np.float32),
            "prompt": np.full((size, 2), start, np.float32),
        }
        for width, name in enumerate(names, 1)
    }
    return Arrays(arrays), {name: np.full(2, -start, np.float32) for name in names}


def test_samples_of_several_stages_by_hand():
    samples = EncodedSamples([part(2, 10, "text", "image"), part(3, 20, "text", "audio", "video")], True)
    assert len(samples) == 5
    got = read_batch(samples, range(5))
    assert set(got) == {"text", "image", "audio", "video"}
    assert got["text"]["mean"].ravel().tolist() == [10, 11, 20, 21, 22]
    assert got["text"]["present"].tolist() == [1, 1, 1, 1, 1]
    assert got["image"]["mean"].tolist() == [[10, 10], [11, 11], [0, 0], [0, 0], [0, 0]]
    assert got["image"]["present"].tolist() == [1, 1, 0, 0, 0]
    assert got["audio"]["mean"].tolist() == [[0, 0], [0, 0], [20, 20], [21, 21], [22, 22]]
    assert got["video"]["prompt"].tolist() == [[0, 0], [0, 0], [20, 20], [20, 20], [20, 20]]
    assert got["video"]["present"].tolist() == [0, 0, 1, 1, 1]
    assert got["text"]["null"].tolist() == [[-10, -10]] * 2 + [[-20, -20]] * 3
    assert got["video"]["null"].tolist() == [[0, 0]] * 2 + [[-20, -20]] * 3
    assert all(leaf.dtype == np.float32 for tree in got.values() for leaf in tree.values())
    sample = samples[3]
    assert sample["text"]["mean"] == [21] and sample["image"]["present"] == 0
    assert toy.same(samples.read([4, 0]), {m: {k: x[[4, 0]] for k, x in tree.items()} for m, tree in got.items()})


def test_a_single_stage_is_unchanged_apart_from_its_null_prompts():
    arrays, null = part(4, 0, "text", "image")
    assert toy.same(EncodedSamples([(arrays, {})], False).read(range(4)), arrays.read(range(4)))
    got = EncodedSamples([(arrays, null)], False).read([3, 1])
    assert {name: tree.pop("null").shape for name, tree in got.items()} == {"text": (2, 2), "image": (2, 2)}
    assert toy.same(got, arrays.read([3, 1]))


def test_stages_of_different_shapes_are_refused():
    with pytest.raises(ConfigError, match=r"^encoded samples of image have different shapes: \{'mean': \(2,\).*\(1,\)"):
        EncodedSamples([part(2, 10, "text", "image"), part(3, 20, "image")], True)


def run_with(change):
    config = toy.config()
    with config.unlocked():
        change(config)
    return open_run(config, None)


MEDIA = {"modalities": ("text", "image"), "size": 32}
MANIFEST = {"name": "manifest", "path": "a.csv", "media": MEDIA}


def manifest(**changes):
    def change(config):
        media = {**MEDIA, **changes.pop("media", {})}
        config.sources["text+image"] = {**MANIFEST, "media": media, **changes}

    return change


@pytest.mark.parametrize(
    ("change", "differs"),
    [
        (manifest(), False),
        (manifest(faults={"log": "bad.jsonl", "max_bad_fraction": 0.5}), False),
        (manifest(media={"timeout_s": 5.0, "crop": "middle"}), False),  # a default
        (manifest(media={"size": 64}), True),
        (manifest(media={"views": 2}), True),
        (manifest(faults={"seed": 1}), True),
        (manifest(columns={"text": "caption"}), True),
        (lambda c: (manifest()(c), c.model.modalities.text.update(length=9)), True),
        (lambda c: (manifest()(c), c.model.update(null="empty")), True),
        (lambda c: (manifest()(c), c.model.modalities.image.denoiser.update(channels=32)), False),
        (lambda c: (manifest()(c), c.stages.encode["text+image"].update(batch_size=3)), False),
    ],
)
def test_samples_depend_on_what_changes_them(change, differs):
    before = encoded.inputs(run_with(manifest()), ENCODE)
    assert (encoded.inputs(run_with(change), ENCODE) != before) == differs


def test_the_first_difference_is_named():
    runs = [run_with(manifest(media={"size": size})) for size in (32, 64)]
    before, now = (encoded.inputs(run, ENCODE) for run in runs)
    with pytest.raises(
        ConfigError, match=r"^d is old; delete it and run the stage again \(source/media/size: 32, now 64"
    ):
        encoded.check_origin(runs[1], before, now, "d is old")


def of_an_older_version(run):
    """What it wrote, before there were `crop` of media and `read_size` of images."""
    saved = encoded.inputs(run, ENCODE) | {"fingerprint": "of a version that wrote one", "weights": {}}
    del saved["source"]["media"]["crop"], saved["model"]["modalities"]["image"]["read_size"]
    return saved


def test_samples_of_an_older_version_have_the_defaults_of_newer_fields():
    run = run_with(manifest())
    now = encoded.inputs(run, ENCODE) | {"weights": {}}
    encoded.check_origin(run, of_an_older_version(run), now, "d is old")

    changed = run_with(manifest(media={"crop": "random"}))
    with pytest.raises(ConfigError, match=r"\(source/media/crop: middle, now random\)"):
        encoded.check_origin(changed, of_an_older_version(run), encoded.inputs(changed, ENCODE), "d is old")
    with pytest.raises(ConfigError, match=r"\(model/modalities/image/read_size: 0, now 48\)"):
        expected = encoded.inputs(run, ENCODE)
        expected["model"]["modalities"]["image"]["read_size"] = 48
        encoded.check_origin(run, of_an_older_version(run), expected, "d is old")


@pytest.mark.parametrize("part", ["source", "model"])
def test_samples_of_a_newer_version_differ(part):
    run = run_with(manifest())
    now = encoded.inputs(run, ENCODE)
    saved = encoded.inputs(run, ENCODE)
    (saved["source"] if part == "source" else saved["model"]["modalities"]["image"])["of_tomorrow"] = 1
    with pytest.raises(ConfigError, match=r"of_tomorrow: 1, now None\)"):
        encoded.check_origin(run, saved, now, "d is old")


def test_attention_in_time_does_not_change_samples():
    timed, plain = (
        encoded.inputs(open_run(digit_world.run(timed=timed, tiny=True), None), "encode.audio+video")
        for timed in (True, False)
    )
    assert timed == plain


def mixture(**parts):
    return lambda config: config.sources.update(both={"name": "mixture", "parts": parts})


def reading(change, source):
    run = run_with(change)
    ldm = dataclasses.replace(run.stage("ldm.text"), source=source)
    stages = {**run.config.stages, "ldm": {**run.config.stages["ldm"], "text": ldm}}
    return Run(dataclasses.replace(run.config, stages=stages), None)


def test_what_a_stage_reads():
    two = mixture(a={"stage": ENCODE, "weight": 2.0}, b={"stage": ENCODE})
    kinds = {"text+image": ((), False), ENCODE: ((ENCODE,), False), (ENCODE, ENCODE): ((ENCODE, ENCODE), True)}
    for source, expected in [*kinds.items(), ("both", ((ENCODE, ENCODE), True))]:
        run = reading(two, source)
        assert (encoded.stages_of(run, source), encoded.is_mixed(run, source)) == expected
        components = objective_of(run, "ldm.text").components
        assert ("clip_text" in components) == (source == "text+image")


@pytest.mark.parametrize(
    ("parts", "says"),
    [
        ({"a": {"stage": "ldm.text"}}, r"config\.sources\.both: there is no encode stage 'ldm\.text'"),
        ({"a": {"stage": ENCODE}, "b": {"name": "digit_world"}}, "a mixture is of encode stages or of other sources"),
    ],
)
def test_mixtures_that_cannot_be_read(parts, says):
    with pytest.raises(ConfigError, match=says):
        objective_of(reading(mixture(**parts), "both"), "ldm.text")
