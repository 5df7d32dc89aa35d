"""A playground for a process of its own (`benchmarks.serve.serving`): prints its address, then serves.

python -m tests.serve.served --seconds=0.1      a pipeline that computes nothing, whose steps take so long
"""

import argparse
import time


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
