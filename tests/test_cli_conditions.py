"""--hold, --mask, --edit and --strength: what they say, and one line for what makes no sense."""

import argparse

import pytest

from codi_jax.cli import conditions
from codi_jax.config import ConfigError


def parse(*arguments):
    parser = argparse.ArgumentParser()
    conditions.add_arguments(parser)
    return conditions.parse(parser.parse_args(arguments))


def test_values_parts_masks_and_strengths():
    found = parse(
        *("--hold=audio=a.wav", "--hold", "video=d/c.mp4:0-.5s,.75-1s", "--hold=image=p.png", "--mask=image=m.png"),
        *("--edit=text=a red seven", "--edit=pen=p.csv", "--strength=.4", "--strength=pen=.9"),
    )
    assert found["audio"].value == "a.wav" and found["audio"].whole
    assert (found["video"].value, found["video"].keep) == ("d/c.mp4", "0-.5s,.75-1s")
    assert (found["image"].value, found["image"].mask) == ("p.png", "m.png")
    assert (found["text"].value, found["text"].strength, found["pen"].strength) == ("a red seven", 0.4, 0.9)
    assert parse("--edit=image=p.png")["image"].strength == 0.6
    assert parse("--hold=video=c.mp4:0,5-7")["video"].keep == "0,5-7"
    parts = ("--hold=image=p.png", "--mask=image=m.png", "--hold=audio=a.wav", "--edit=pen=p.csv", "--mask=pen=q.csv")
    scales = {name: of.reconstruction for name, of in parse(*parts, "--reconstruction=10").items()}
    assert scales == {"image": 10, "audio": 0, "pen": 10}
    assert parse("--hold=audio=a.wav:0-1s", "--reconstruction=audio=3")["audio"].reconstruction == 3
    assert parse() == {}
    for dots in ("…", "...", " ..."):
        begun = parse(f"--hold=text=a red{dots}")["text"]
        assert begun.value == "a red" and begun.begins


@pytest.mark.parametrize("file", ["gs://bucket/a.wav", "C:a.wav", "12:30.wav", "a.wav:"])
def test_a_colon_in_a_name_is_no_part(file):
    found = parse(f"--hold=audio={file}")["audio"]
    assert (found.value, found.keep) == (file, None)


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["--hold=a.wav"], "--hold: expected NAME=FILE, such as image=p.png, got 'a.wav'"),
        (["--hold=audio="], "--hold: expected NAME=FILE"),
        (["--hold=audio=a", "--hold=audio=b"], "--hold audio is given twice"),
        (["--hold=image=a", "--edit=image=b"], "--hold and --edit of image: use only one of them"),
        (["--mask=image=m.png"], "--mask image: needs --hold image=FILE or --edit image=FILE"),
        (["--strength=.5"], "--strength: needs --edit NAME=FILE"),
        (["--strength=image=.5"], "--strength image: needs --hold image=FILE or --edit image=FILE"),
        (["--hold=image=a", "--strength=image=.5"], "--strength image: is for --edit image=FILE"),
        (["--hold=image=a", "--reconstruction=3"], "--reconstruction: needs a part that --hold or --mask keeps"),
        (
            ["--hold=image=a", "--reconstruction=image=3"],
            "reconstruction: is guidance by a part that keep or mask keeps",
        ),
        (["--reconstruction=image=3"], "--reconstruction image: needs --hold image=FILE or --edit image=FILE"),
        (["--edit=image=a", "--strength=x"], "--strength: expected a number, got 'x'"),
        (["--edit=image=a", "--strength=0"], "strength: expected more than 0, and at most 1, got 0"),
        (
            ["--hold=video=c.mp4:0-1s", "--mask=video=m.png"],
            "--hold video=c.mp4:0-1s: gives a part, and --mask another",
        ),
    ],
)
def test_what_makes_no_sense_is_refused(arguments, why):
    with pytest.raises(ConfigError) as error:
        parse(*arguments)
    assert str(error.value).startswith(why)
