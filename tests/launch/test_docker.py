"""Dockerfile and .dockerignore: what hadolint would find, and that they name what exists. No image is built."""

import re
import shlex
from fnmatch import fnmatch
from importlib import metadata
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
# Those that a stage may have here, in this order.
ORDER = ("FROM", "ARG", "ENV", "WORKDIR", "COPY", "RUN", "USER", "ENTRYPOINT", "CMD")
TARGETS = ("cpu", "cuda")


def instructions(text):
    """(instruction, rest) of every one, comments left out and continued lines joined."""
    lines = re.sub(r"\\\n\s*", "", re.sub(r"^#.*\n", "", text, flags=re.MULTILINE)).splitlines()
    return [tuple(line.split(maxsplit=1)) for line in lines if line.strip()]


FOUND = instructions((ROOT / "Dockerfile").read_text(encoding="utf-8"))
DEFAULTS = {rest.partition("=")[0]: rest.partition("=")[2] for word, rest in FOUND if word == "ARG"}


def filled(text):
    return re.sub(r"\$\{(\w+)\}", lambda found: DEFAULTS[found[1]], text)


def stages():
    """Name -> (image or stage that it starts from, its instructions)."""
    out = {}
    for word, rest in FOUND:
        if word == "FROM":
            image, _, name = rest.split()
            out[name] = (filled(image), [])
        elif out:
            out[list(out)[-1]][1].append((word, rest))
    return out


def whole(name):
    """The instructions of a stage after those of the stages that it starts from."""
    start, own = stages()[name]
    return [*(whole(start) if start in stages() else ()), *own]


def test_instructions_are_known():
    assert {word for word, _ in FOUND} <= {*ORDER}
    for _, own in stages().values():
        assert "ENTRYPOINT" not in [word for word, _ in own] or own[-1][0] == "CMD"


def test_targets_and_the_default():
    assert {*TARGETS} <= {*stages()} and list(stages())[-1] == "cpu"


def test_base_images_are_pinned_and_slim():
    images = {image for image, _ in stages().values() if image not in stages()}
    assert images and all(re.fullmatch(r"python:3\.\d+-slim-[a-z]+", image) for image in images)
    (version,) = {image.split(":")[1].split("-")[0] for image in images}
    assert f"| {version} |" in (ROOT / "README.md").read_text(encoding="utf-8").replace("3.12, 3.13", "3.13")


@pytest.mark.parametrize("target", TARGETS)
def test_an_image_runs_the_program_without_being_root(target):
    found = whole(target)
    users = [rest for word, rest in found if word == "USER"]
    assert users and users[-1] not in ("root", "0") and found[-1][0] == "USER"
    assert any("useradd" in rest and f"--uid {users[-1]} " in rest for word, rest in found if word == "RUN")
    assert [rest for word, rest in found if word == "ENTRYPOINT"] == ['["codi-jax"]']


@pytest.mark.parametrize("name", list(stages()))
def test_nothing_is_left_in_a_cache(name):
    for word, rest in stages()[name][1]:
        if word == "RUN" and "pip " in rest:
            assert "--no-cache-dir" in rest
        assert word != "RUN" or "apt-get" not in rest  # then its lists have to be deleted


@pytest.mark.parametrize("target", TARGETS)
def test_the_wheel_comes_from_the_builder_and_its_extras_exist(target):
    (line,) = [rest for word, rest in stages()[target][1] if word == "RUN"]
    assert "--mount=type=bind,from=builder,source=/dist" in line and "/dist" in stages()["builder"][1][-1][1]
    (extras,) = re.findall(r"\.whl\)\[(.*?)\]", filled(line))
    assert {*extras.split(",")} <= {*metadata.metadata("codi_jax").get_all("Provides-Extra")}
    assert ("cuda" in extras.split(",")) == (target == "cuda")


def test_what_is_copied_exists_and_is_not_ignored():
    kept = [line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")]
    copied = [path for word, rest in FOUND if word == "COPY" for path in shlex.split(rest)[:-1]]
    assert sorted(copied) == sorted(kept) and all((ROOT / path).exists() for path in copied)


def test_everything_else_is_ignored():
    rules = [x for x in (ROOT / ".dockerignore").read_text().splitlines() if x and not x.startswith(("#", "!"))]
    assert rules[0] == "*" and any(fnmatch("codi_jax/x/__pycache__", rule) for rule in rules[1:])


def test_these_checks_find_errors():
    assert instructions("# a\nRUN a \\\n    b\nUSER 1\n") == [("RUN", "a b"), ("USER", "1")]
