"""Notebooks of examples/, without Jupyter: their cells, and a process that runs them."""

import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
NOTEBOOKS = sorted((ROOT / "examples" / "notebooks").glob("*.ipynb"))

# As in pyproject.toml: ml_collections reads --config=FILE by a deprecated method.
WARNINGS = ("-W", "error", "-W", "ignore:the load_module:DeprecationWarning")

# Runs code cells in one namespace. As in Jupyter, the value of the last expression of a cell is shown.
RUN = """
import ast, json, pathlib, sys
cells = json.loads(pathlib.Path(sys.argv[1]).read_text(encoding="utf-8"))["cells"]
names = {"__name__": "__main__"}
for number, cell in enumerate(cells):
    if cell["cell_type"] != "code":
        continue
    tree = ast.parse("".join(cell["source"]), f"cell {number}")
    last = tree.body.pop() if isinstance(tree.body[-1], ast.Expr) else None
    exec(compile(tree, f"cell {number}", "exec"), names)
    if last is not None:
        value = eval(compile(ast.Expression(last.value), f"cell {number}", "eval"), names)
        shown = getattr(value, "_repr_html_", None) or getattr(value, "_repr_png_", None)
        print(f"cell {number}: {value!r:.200}", len(shown()) if shown else "", flush=True)
"""


def code(path: Path) -> list[str]:
    """The code of a notebook, cell by cell."""
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    return ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]


def run(path: Path, folder: Path) -> str:
    """Runs a notebook in a folder, small, and returns what it prints; raises if a cell fails."""
    others = {name: value for name, value in os.environ.items() if name != "XLA_FLAGS"}  # one notebook sets it
    env = {**others, "CODI_SMALL": "1", "PYTHONPATH": f"{ROOT}:{os.environ.get('PYTHONPATH', '')}"}
    command = [sys.executable, *WARNINGS, "-c", RUN, str(path)]
    done = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, timeout=3000, check=False)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout
