"""Notebooks are valid, have no outputs, and use names that exist; `tests/slow/test_notebooks.py` runs them."""

import ast
import importlib
import json

import pytest

from tests.names import find
from tests.notebooks import NOTEBOOKS, ROOT, code

each = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
OURS = ("codi_jax", "examples", "benchmarks")


def test_there_are_four():
    assert [path.stem for path in NOTEBOOKS] == ["bridging_at_scale", "finetune", "own_modality", "quickstart"]


@each
def test_it_is_a_notebook_without_outputs(path):
    book = json.loads(path.read_text(encoding="utf-8"))
    assert (book["nbformat"], book["nbformat_minor"]) == (4, 5)
    assert set(book["metadata"]) == {"kernelspec", "language_info"}
    cells = book["cells"]
    assert len({cell["id"] for cell in cells}) == len(cells)
    assert cells[0]["cell_type"] == "markdown" and cells[0]["source"][0].startswith("# ")
    for cell in cells:
        assert cell["cell_type"] in ("markdown", "code") and cell["source"] and not cell["metadata"]
        if cell["cell_type"] == "code":
            assert cell["outputs"] == [] and cell["execution_count"] is None
            assert not any(line.lstrip().startswith(("!", "%")) for line in cell["source"]), "no magic: it is Python"
    assert "CODI_SMALL" in "".join(code(path)), "it has to run small"


def names_of(source):
    """The names of our packages that some code imports or reads: (module, attribute), and dotted reads of modules."""
    tree, modules = ast.parse(source), {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                if alias.name.split(".")[0] in OURS:
                    modules[alias.asname or alias.name] = alias.name
                    yield alias.name, None
        elif isinstance(node, ast.ImportFrom) and node.module.split(".")[0] in OURS:
            for alias in node.names:
                modules[alias.asname or alias.name] = f"{node.module}.{alias.name}"
                yield node.module, alias.name
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in modules:
            yield modules[node.value.id], node.attr


def absent(source):
    """The names of ours in some code that do not exist."""
    for name, attribute in names_of(source):
        thing = find(name)
        if attribute is None or hasattr(thing, attribute):
            continue
        try:
            importlib.import_module(f"{name}.{attribute}")
        except ModuleNotFoundError:
            yield f"{name}.{attribute}"


@pytest.mark.usefixtures("restored_registries")
@each
def test_the_names_in_it_exist(path):
    # Those of the example register a modality and a source, which other tests do for themselves.
    source = "\n".join(
        line for line in "\n".join(code(path)).splitlines() if "import" not in line or "examples" not in line
    )
    assert not list(absent(source))
    for name, attribute in names_of("\n".join(code(path))):
        if name.startswith("examples"):
            file = ROOT / f"{name.replace('.', '/')}.py"
            tree = ast.parse(file.read_text(encoding="utf-8"))
            defined = {node.name for node in tree.body if isinstance(node, (ast.ClassDef, ast.FunctionDef))}
            assert attribute in defined


def test_these_checks_find_errors():
    source = "import codi_jax\nfrom codi_jax.data.source import make_sauce\ncodi_jax.lode\ncodi_jax.load"
    assert list(absent(source)) == ["codi_jax.data.source.make_sauce", "codi_jax.lode"]
