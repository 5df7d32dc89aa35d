"""Checks that this tree computes bit-identical metrics to another commit, for changes that must not alter any number.

    python -m benchmarks.same_numbers --base=COMMIT

Both trees train and evaluate the configs demo:tiny and digit_world:tiny, and evaluate the packaged model on a few
samples, each with its own command line. All lines of metrics.jsonl are compared, except rates and seconds, and all of
metrics.json but the commit. Results of a commit are cached in out/same_numbers. Takes about ten minutes.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

CONFIGS = {"demo": "two", "digit_world": "four"}  # name -> its name before version 0.3
SAMPLES = 8
MEASURED = ("steps_per_second", "data_wait", "flops_per_second", "utilisation", "seconds", "commit")


def without_times(tree: Any) -> Any:
    """Removes times and rates, and the commit of an evaluation, from a JSON tree."""
    if isinstance(tree, dict):
        return {key: without_times(value) for key, value in tree.items() if key not in MEASURED}
    return [without_times(value) for value in tree] if isinstance(tree, list) else tree


def differences(a: Any, b: Any, path: str = "") -> list[str]:
    """The differences of two JSON trees, one line each."""
    if isinstance(a, dict) and isinstance(b, dict):
        return [d for key in sorted({*a, *b}) for d in differences(a.get(key), b.get(key), f"{path}/{key}")]
    if isinstance(a, list) and isinstance(b, list) and len(a) == len(b):
        return [d for i, (x, y) in enumerate(zip(a, b, strict=True)) for d in differences(x, y, f"{path}/{i}")]
    return [] if a == b else [f"{path}: {a} -> {b}"]


def count(tree: Any) -> int:
    """Number of leaves of a JSON tree."""
    inner = tree.values() if isinstance(tree, dict) else tree if isinstance(tree, list) else None
    return 1 if inner is None else sum(count(value) for value in inner)


def numbers_of(tree: Path) -> dict[str, Any]:
    """Metrics of the tiny runs and of the packaged model of a working tree."""
    environment = {**os.environ, "JAX_PLATFORMS": "cpu", "PYTHONPATH": str(tree)}

    def command(*arguments: str, below_floors: bool = False) -> None:
        line = [sys.executable, "-m", "codi_jax.cli", *arguments]
        result = subprocess.run(line, cwd=tree, env=environment, capture_output=True, text=True)
        if result.returncode not in ((0, 1) if below_floors else (0,)):
            raise SystemExit(f"{' '.join(line)}\n{result.stdout}\n{result.stderr}")

    out: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        for name, former in CONFIGS.items():
            workdir = Path(folder, name)
            file = next(f for f in (f"configs/{name}.py", f"configs/{former}.py") if (tree / f).exists())
            command("train", f"--config={file}:tiny", f"--workdir={workdir}", "--quiet")
            command("evaluate", f"--workdir={workdir}", below_floors=True)
            for path in sorted(workdir.glob("stages/*/metrics.jsonl")):
                out[f"{name}/{path.parent.name}"] = [json.loads(line) for line in path.read_text().splitlines()]
            out[f"{name}/metrics.json"] = json.loads((workdir / "metrics.json").read_text())
        package, workdir = Path(folder, "package"), Path(folder, "packaged")
        source = next(tree.glob("codi_jax/**/weights/config.json")).parent
        shutil.copytree(source, package)
        config = json.loads((package / "config.json").read_text())
        config["run"]["evaluate"]["n"] = SAMPLES
        (package / "config.json").write_text(json.dumps(config))
        command("evaluate", f"--model={package}", f"--workdir={workdir}", below_floors=True)
        out["packaged/metrics.json"] = json.loads((workdir / "metrics.json").read_text())
    return without_times(out)


def git(*arguments: str) -> str:
    return subprocess.run(["git", *arguments], check=True, capture_output=True, text=True).stdout.strip()


def numbers_at(commit: str, cache: Path) -> dict[str, Any]:
    """`numbers_of` a commit, from the cache if they are there."""
    file = cache / f"{git('rev-parse', commit)}.json"
    if not file.exists():
        with tempfile.TemporaryDirectory() as folder:
            tree = Path(folder, "tree")
            git("worktree", "add", "--detach", str(tree), commit)
            try:
                numbers = numbers_of(tree)
            finally:
                git("worktree", "remove", "--force", str(tree))
        cache.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(numbers, indent=1))
    return json.loads(file.read_text())


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--base", required=True, help="commit to compare with")
    parser.add_argument("--kept", default="out/same_numbers", help="folder of the cached results")
    args = parser.parse_args()
    base = numbers_at(args.base, Path(args.kept))
    current = json.loads(json.dumps(numbers_of(Path.cwd())))
    lines = differences(base, current)
    for line in lines[:40]:
        print(line)
    print(f"{len(lines)} of {count(base)} values differ from those of {args.base}")
    sys.exit(bool(lines))


if __name__ == "__main__":
    main()
