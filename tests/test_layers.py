"""The package's own rules, read off its syntax trees."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "codi_jax"
FILES = sorted(PACKAGE.rglob("*.py"))

# A room may import from rooms that are named before it, and from itself. The first eleven are files that all use.
# So training knows of no evaluation, and of digit_world only what lies above it: the command line.
ROOMS = (
    *("types", "config", "exit_codes", "registry", "rng", "condition"),
    *("config_utils", "storage", "range_reads", "progress", "plugins"),
    *("diffusion", "parallel", "checkpoint", "media", "data", "nn", "encoders", "modalities", "codi", "interop"),
    *("hub", "packaged", "optim", "objectives", "sampling", "train", "plan", "metrics", "report"),
    *("output", "pretrained", "pipeline", "loading"),
    *("digit_world", "polymnist", "presets", "evaluation", "serve", "doctor", "cli"),
)

MODALITIES = {"text", "image", "audio", "video"}
# Of an evaluation, a metric is one of certain modalities.
SPEAKS_OF_MODALITIES = ("modalities", "interop", "presets", "digit_world", "evaluation", "data/decoded_source.py")


def name_of(path):
    return str(path.relative_to(PACKAGE))


def room_of(path):
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imports(tree):
    """Rooms that a module imports, wherever in it."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            modules = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, "imports are absolute"
            modules = [node.module]
            if node.module == "codi_jax":
                modules = [f"codi_jax.{alias.name}" for alias in node.names if alias.name != "__version__"]
        else:
            continue
        yield from (m.split(".")[1] for m in modules if m.startswith("codi_jax."))


each_file = pytest.mark.parametrize("path", FILES, ids=name_of)


def test_every_room_is_known():
    assert {room_of(path) for path in FILES} - {"__init__"} == set(ROOMS)


@each_file
def test_imports_run_down(path):
    room = room_of(path)
    if room == "__init__":
        return  # names what the package exports, which is imported when it is first used
    above = {r for r in imports(ast.parse(path.read_text())) if r != room and ROOMS.index(r) >= ROOMS.index(room)}
    assert not above, f"{room} must not know of {', '.join(sorted(above))}"


@each_file
def test_no_modality_is_named_outside_its_own_file(path):
    if name_of(path).startswith(SPEAKS_OF_MODALITIES):
        return
    tree = ast.parse(path.read_text())
    named = [n.lineno for n in ast.walk(tree) if isinstance(n, ast.Constant) and n.value in MODALITIES]
    assert not named, f"lines {named}: the registry of modalities is all that the rest may know"


@each_file
def test_every_module_says_what_it_is_and_is_short(path):
    text = path.read_text()
    assert ast.get_docstring(ast.parse(text)) or not text.strip(), "no docstring"
    assert len(text.splitlines()) <= 450


def test_an_evaluation_of_anybodys_samples_knows_no_world():
    for path in (PACKAGE / "evaluation").rglob("*.py"):
        assert not {"digit_world", "presets", "train"} & set(imports(ast.parse(path.read_text()))), path.name


def test_configs_read_presets_and_packaged_models_alone():
    for path in (ROOT / "configs").glob("*.py"):
        assert set(imports(ast.parse(path.read_text()))) <= {
            "config",
            "config_utils",
            "packaged",
            "presets",
            "storage",
        }, path.name


def test_importing_the_package_changes_nothing_and_does_not_wait_for_jax():
    script = (
        "import os, sys; before = dict(os.environ); import codi_jax, codi_jax.cli; "
        "assert dict(os.environ) == before; assert not {'jax', 'numpy'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", script], check=True, timeout=60)


def test_a_library_keeps_the_logs_of_orbax():
    script = "import logging, codi_jax.checkpoint; assert not logging.getLogger('absl').filters"
    subprocess.run([sys.executable, "-c", script], check=True, timeout=60)
