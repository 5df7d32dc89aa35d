"""Runs `codi-jax` in a separate process, for tests that kill it; its output goes to WORKDIR.log."""

import os
import subprocess
import sys
from pathlib import Path


def log(workdir: Path) -> Path:
    """The log file of the processes of a workdir."""
    return workdir.with_name(f"{workdir.name}.log")


def start(workdir: Path, cache: Path, *arguments: str) -> subprocess.Popen:
    """Starts the command; compiled programs are cached in `cache`."""
    env = {
        **os.environ,
        "JAX_PLATFORMS": "cpu",
        "JAX_DISABLE_MOST_OPTIMIZATIONS": "1",
        "JAX_COMPILATION_CACHE_DIR": str(cache),
    }
    command = [sys.executable, "-m", "codi_jax.cli", *arguments, f"--workdir={workdir}"]
    with log(workdir).open("ab") as file:
        return subprocess.Popen(command, env=env, stdout=file, stderr=file)


def finish(workdir: Path, cache: Path, *arguments: str) -> None:
    """Runs the command to its end and asserts exit code 0."""
    process = start(workdir, cache, *arguments)
    try:
        assert process.wait(timeout=3600) == 0, log(workdir).read_text()[-2000:]
    finally:
        process.kill()
