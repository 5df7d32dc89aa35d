"""What is public changes on purpose only: names that packages export, arguments, the command line, config keys.

A difference is a change for users: say it in CHANGELOG.md, and run `python -m tests.test_public_names` to accept it.
"""

import argparse
import ast
import collections
import dataclasses
import importlib
import inspect
from pathlib import Path

import pytest

import codi_jax
from codi_jax.cli.entry import make_parser
from codi_jax.objectives.base import OBJECTIVES
from codi_jax.pipeline import Pipeline
from tests import registries

ROOT = Path(__file__).parents[1]
RECORD = Path(__file__).with_name("public_names.txt")


def exports():
    for path in sorted((ROOT / "codi_jax").rglob("__init__.py")):
        module = ".".join(path.parent.relative_to(ROOT).parts)
        names = getattr(importlib.import_module(module), "__all__", ())
        yield from (f"{module}: {name}" for name in sorted(names))


def flags(parser):
    return sorted(flag for action in parser._actions for flag in action.option_strings if flag.startswith("--"))


def command_line():
    for action in make_parser()._actions:
        if isinstance(action, argparse._SubParsersAction):
            yield from (
                f"codi-jax {verb}: {' '.join(flags(parser))}" for verb, parser in sorted(action.choices.items())
            )


def keys():
    """The keys of a config: fields of the dataclasses whose names end in Config."""
    for path in sorted((ROOT / "codi_jax").rglob("*.py")):
        names = [n.name for n in ast.parse(path.read_text()).body if isinstance(n, ast.ClassDef)]
        module = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        for name in (name for name in names if name.endswith("Config") and not name.startswith("_")):
            config = getattr(importlib.import_module(module), name)
            if dataclasses.is_dataclass(config):
                yield f"{name}: {' '.join(field.name for field in dataclasses.fields(config))}"
    yield f"objectives: {' '.join(list(OBJECTIVES)[:7])}"


def arguments():
    """What users call in Python."""
    methods = ("encode", "embed", "decode", "with_settings", "with_adapters", "save_pretrained", "push_to_hub")
    calls = {"load": codi_jax.load, **{f"Pipeline.{n}": getattr(Pipeline, n) for n in methods}}
    for name, call in {**calls, "Pipeline": Pipeline.__call__}.items():
        yield f"{name}: {' '.join(name for name in inspect.signature(call).parameters if name != 'self')}"


def public_names():
    return "\n".join([*exports(), *command_line(), *arguments(), *keys()]) + "\n"


@pytest.fixture(scope="module", autouse=True)
def plugins():
    """Modules with configs are imported, which registers those of plugins; their entries are removed afterwards."""
    with registries.polymnist():
        yield


def test_public_names_are_those_of_the_record():
    assert public_names().splitlines() == RECORD.read_text().splitlines(), __doc__


def test_no_two_public_classes_have_one_name():
    found = collections.defaultdict(list)
    for path in (ROOT / "codi_jax").rglob("*.py"):
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                found[node.name].append(str(path.relative_to(ROOT)))
    assert {name: paths for name, paths in found.items() if len(paths) > 1} == {}


if __name__ == "__main__":
    RECORD.write_text(public_names())
