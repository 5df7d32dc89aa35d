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


RETURN = """
import platform
from concurrent.futures import ThreadPoolExecutor
import numpy as np
from codi_jax.parallel.host import return_freed_memory

assert return_freed_memory() == (platform.libc_ver()[0] == "glibc")

def anonymous():
    return next(int(x.split()[1]) for x in open("/proc/self/status") if x.startswith("RssAnon"))

def some(_):
    return sum(np.ones(n, np.uint8)[-1] for n in (1 << 24, 1 << 22, 1 << 24))

before = anonymous()
with ThreadPoolExecutor(8) as threads:
    list(threads.map(some, range(64)))
assert platform.system() != "Linux" or anonymous() - before < 8192, (before, anonymous())
"""


def test_what_many_threads_free_is_given_back():
    subprocess.run([sys.executable, "-c", RETURN], check=True, timeout=120)


def test_large_arrays_cost_new_pages_only_once():
    subprocess.run([sys.executable, "-c", SCRIPT], check=True, timeout=120)
