"""What a client asks for becomes a result: with a pipeline that computes nothing, and once with one that does."""

import re

import numpy as np
import pytest

from benchmarks import fuzz_files
from codi_jax.config import ConfigError
from codi_jax.diffusion.guidance import ClassifierFreeGuidance
from codi_jax.pipeline import Pipeline
from codi_jax.sampling.config import GenerateConfig
from codi_jax.serve.playground import Playground, PlaygroundLimits
from codi_jax.serve.queue import QueueLimits
from codi_jax.serve.results import ResultLimits
from codi_jax.serve.setting import Setting, Use, from_json
from codi_jax.serve.widgets import InControl
from tests import toy
from tests.serve.fake import FakePipe

EVERYTHING = Setting(toy.EVERYTHING, {"text": Use(text="a red seven")}, steps=3, seed=5, n=2)

UNWATCHED = PlaygroundLimits(queue=QueueLimits(abandoned=1e9))  # no page asks for these jobs


@pytest.fixture
def play():
    made = Playground(FakePipe(), "model: fake", UNWATCHED, start=False)
    yield made
    made.close()


def request_of(play, client="a", setting=EVERYTHING, files=None):
    job = play.read(client, setting, files or {})
    play.decoding.step()
    if job.state != "done":
        raise ConfigError(job.error)
    return job.result


def made_by(play, client="a", setting=EVERYTHING, files=None):
    job = play.compute(client, request_of(play, client, setting, files))
    play.computing.step()
    assert job.state == "done", job.error
    return job.result


def test_a_result_has_files_players_and_its_setting(play):
    made = made_by(play)
    names = [f"{name}_{i}{play.codi[name].suffix}" for name in toy.EVERYTHING for i in range(2)]
    assert sorted(made.files) == sorted(names) and all(made.files.values())
    assert {name: len(items) for name, items in made.shown.items()} == dict.fromkeys(toy.EVERYTHING, 2)
    assert "<audio" in made.shown["audio"][0] and "data:image/webp" in made.shown["video"][1]
    assert from_json(made.settings_json()) == EVERYTHING and '"model": "model: fake"' in made.settings_json()
    assert play.result("a", made.token) is made


def test_files_that_were_given_are_in_the_result(play):
    files = {"image": InControl(file=fuzz_files.IMAGES["png"]())}
    setting = Setting(("audio",), {"image": Use()}, steps=2)
    made = made_by(play, setting=setting, files=files)
    assert sorted(made.files) == ["audio_0.wav", "given_image.png"]
    modality, path = play.give("a", made.token, "given_image.png")
    assert modality == "image" and path.startswith(str(play.folder.path))
    np.testing.assert_array_equal(play.codi["image"].raw_from_user(path), play.pipe.calls[-1]["prompts"]["image"])


def test_an_output_is_given_again(play):
    made = made_by(play)
    assert play.give("a", made.token, "text_1.txt") == ("text", made.files["text_1.txt"].decode().strip())
    name, path = play.give("a", made.token, "video_0.mp4")
    again = made_by(
        play, setting=Setting(("audio",), {name: Use("whole")}, steps=1), files={name: InControl(file=path)}
    )
    assert sorted(again.shown) == ["audio", "video"]
    for bad in ("settings.json", "../secret", "image_9.png", ""):
        with pytest.raises(ConfigError, match="this result has no such file"):
            play.give("a", made.token, bad)


def test_nothing_of_another_client_can_be_had(play):
    made = made_by(play)
    for call in (lambda: play.result("b", made.token), lambda: play.give("b", made.token, "text_0.txt")):
        with pytest.raises(ConfigError, match="this result is not kept any more"):
            call()
    job = play.compute("a", request_of(play))
    assert not play.cancel("b", job.token) and job.state == "waiting"
    assert play.cancel("a", job.token) and job.state == "cancelled" and not play.cancel("a", job.token)


def test_previews_appear_and_are_gone_with_the_result(play):
    seen = []
    play.pipe.step = lambda: seen.append(play.computing._running.preview)
    made_by(play, setting=EVERYTHING)
    shown = [html for html in seen if html]
    assert seen[0] is None and shown and all(f"<h3>{name}</h3>" in shown[-1] for name in toy.EVERYTHING)


def test_a_running_request_is_cancelled(play):
    job = play.compute("a", request_of(play))
    play.pipe.step = lambda: play.cancel("a", job.token)
    play.computing.step()
    assert job.state == "cancelled" and play.results.of_client("a") == []


@pytest.mark.parametrize(
    "setting, files, message",
    [
        (Setting(("image",), n=99), {}, "n: expected 1 to 8, got 99"),
        (Setting(("image",), {"audio": Use()}), {}, "audio: give a file (links hold none), or do not use it"),
        (Setting(("image",), {"audio": Use()}), {"audio": InControl(file=b"no audio")}, "the file of audio"),
        (Setting(("audio",), {"image": Use()}), {"image": InControl(file=b"", drawn=True)}, "image: nothing is drawn"),
        (Setting((), {"text": Use("change", text="a red seven")}, steps=1), {}, ""),
    ],
)
def test_what_cannot_be_is_refused(play, setting, files, message):
    if not message:
        assert made_by(play, setting=setting).shown.keys() == {"text"}
        return
    with pytest.raises(ConfigError, match=re.escape(message)):
        request_of(play, setting=setting, files=files)


def test_a_link_is_checked(play):
    assert play.linked("") is None and play.linked("__theme=dark") is None
    assert play.linked("to=image&seed=7").seed == 7
    with pytest.raises(ConfigError, match="no modality 'picture'"):
        play.linked("to=picture")


def test_memory_is_bounded():
    play = Playground(FakePipe(), limits=PlaygroundLimits(results=ResultLimits(megabytes=0.3)), start=False)
    try:
        for i in range(8):
            made_by(play, f"client {i}")
            assert play.results.bytes <= 300_000
        assert play.results.of_client("client 7") and not play.results.of_client("client 0")
    finally:
        play.close()
    assert not play.folder.path.exists()


def test_the_warm_up_generates_all_outputs_without_prompts_and_with_all():
    play = Playground(FakePipe(), start=False)
    job = play.warm_up()
    play.computing.step()
    assert job.state == "done" and [call["to"] for call in play.pipe.calls] == [toy.EVERYTHING] * 2
    assert [list(call["prompts"] or ()) for call in play.pipe.calls] == [[], list(toy.EVERYTHING)]
    play.close()


def test_it_is_what_a_pipeline_makes():
    config = GenerateConfig({name: ClassifierFreeGuidance(2.0) for name in toy.PAIR}, steps=3, loop="host")
    pipe = Pipeline(toy.codi(), config, toy.variables(toy.codi()))
    play = Playground(pipe, "", UNWATCHED, start=False)
    try:
        setting = Setting(("text", "image"), {"text": Use(text="a red seven")}, {"image": 4.0}, steps=3, seed=9, n=2)
        made = made_by(play, setting=setting)
        want = pipe("a red seven", ("text", "image"), n=2, seed=9, guidance={"image": 4.0})
        assert made.shown == {name: [want.html(name, i) for i in range(2)] for name in toy.PAIR}
        assert made.notes == []
    finally:
        play.close()
