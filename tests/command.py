"""`codi-jax` in a process of its own, for tests that kill it; what it says goes to WORKDIR.log."""

import os
import subprocess
import sys
from pathlib import Path


def log(workdir: Path) -> Path:
    """Where the processes of a workdir say what they do."""
    return workdir.with_name(f"{workdir.name}.log")


def start(workdir: Path, cache: Path, *arguments: str) -> subprocess.Popen:
    """Starts it; compiled programs are kept in `cache`."""
    env = {
        **os.environ,
        "JAX_PLATFORMS": "cpu",
        "JAX_DISABLE_MOST_OPTIMIZATIONS": "1",
        "JAX_COMPILATION_CACHE_DIR": str(cache),
    }
    command = [sys.executable, "-m", "codi_jax.cli", *arguments, f"--workdir={workdir}"]
    with log(workdir).open("ab") as said:
        return subprocess.Popen(command, env=env, stdout=said, stderr=said)


def finish(workdir: Path, cache: Path, *arguments: str) -> None:
    """Runs it to its end, which has to be a good one."""
    process = start(workdir, cache, *arguments)
    try:
        assert process.wait(timeout=3600) == 0, log(workdir).read_text()[-2000:]
    finally:
        process.kill()
