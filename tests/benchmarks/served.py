"""What the workers of the tests serve."""

import os


class Served:
    def __init__(self, log):
        self.log, self.count = log, 0

    def add(self, number):
        """Writes the order of the calls of all workers into one file."""
        self.count += number
        with open(self.log, "a") as file:
            file.write(f"{number} ")
        return self.count

    def hold(self, mebibytes):
        block = b"x" * (mebibytes << 20)
        return len(block)

    def fail(self):
        raise ValueError("no such case")

    def leave(self):
        os._exit(3)

    def cpus(self):
        return len(os.sched_getaffinity(0)), os.environ["OMP_NUM_THREADS"]
