"""A playground in a process of its own, for tests and for `benchmarks.serve`: prints its address, then serves.

python -m tests.serve.served --seconds=0.1      a pipeline that computes nothing, whose steps take so long
"""

import argparse
import contextlib
import os
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).parents[2]


@contextlib.contextmanager
def serving(*options, command=("-m", "tests.serve.served"), log=None):
    """The process and the address of a playground, which ends with the block."""
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"}
    process = subprocess.Popen(
        [sys.executable, *command, *options], stdout=subprocess.PIPE, stderr=log, text=True, cwd=ROOT, env=environment
    )
    try:
        url = process.stdout.readline().strip()
        assert url.startswith("http://127.0.0.1:"), "it does not serve"
        yield process, url
    finally:
        process.terminate()
        try:
            process.wait(timeout=30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        process.stdout.close()


def main():
    from codi_jax.serve.playground import Playground
    from codi_jax.serve.server import Server
    from tests.serve.fake import FakePipe

    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, default=0.0)
    seconds = parser.parse_args().seconds
    server = Server(Playground(FakePipe(step=lambda: time.sleep(seconds)), "model: fake"), port=0)
    print(server.url, flush=True)
    server.run()


if __name__ == "__main__":
    main()
