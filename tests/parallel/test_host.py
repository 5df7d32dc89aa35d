"""What is freed stays with the process; in one of its own, since it cannot be taken back."""

import subprocess
import sys

SCRIPT = """
import platform, resource
import numpy as np
from codi_jax.parallel.host import keep_freed_memory

kept = keep_freed_memory()
assert kept == (platform.libc_ver()[0] == "glibc"), kept
np.ones(1 << 25)  # the heap grows once
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(8):
    np.ones(1 << 25)  # 256 MB, or 65536 pages
faults = resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
assert not kept or faults < 1000, faults
"""


def test_large_arrays_cost_new_pages_only_once():
    subprocess.run([sys.executable, "-c", SCRIPT], check=True, timeout=120)
