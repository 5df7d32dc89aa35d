"""Allocator settings and the compilation cache, each in a subprocess, since they cannot be undone."""

import os
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


def test_memory_freed_by_many_threads_is_returned():
    subprocess.run([sys.executable, "-c", RETURN], check=True, timeout=120)


def test_large_arrays_fault_pages_in_only_once():
    subprocess.run([sys.executable, "-c", SCRIPT], check=True, timeout=120)


PROGRAMS = """
import sys, warnings
from pathlib import Path
import jax
from codi_jax.parallel.host import keep_programs, kept_programs

def kept():
    options = kept_programs()
    return options["jax_compilation_cache_dir"], options["jax_persistent_cache_min_compile_time_secs"]

workdir = Path(sys.argv[1])
keep_programs(workdir)
assert kept() == (str(workdir / "compiled"), 0.0), kept()
hits = []
jax.monitoring.register_event_listener(lambda event, **_: hits.append(event) if event.endswith("/cache_hits") else None)
warnings.simplefilter("error")
assert jax.jit(lambda x: 2 * x + 1)(1) == 3
print(len(hits))
"""


def test_small_programs_are_not_compiled_again_by_the_next_process(tmp_path):
    def hits():
        names = ("JAX_COMPILATION_CACHE_DIR", "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS")
        env = {name: value for name, value in os.environ.items() if name not in names}
        command = [sys.executable, "-c", PROGRAMS, str(tmp_path)]
        return int(subprocess.run(command, check=True, timeout=120, env=env, capture_output=True).stdout)

    assert hits() == 0
    assert hits() > 0
