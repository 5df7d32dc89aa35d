"""Settings of a process: memory allocator, compiler options, compilation cache, garbage collector and logs.

The command-line program calls these functions; importing codi_jax as a library changes none of these settings.

XLA on CPU allocates the buffers of every step with malloc and frees them after it. glibc maps large buffers anew each
time, and the kernel clears every page: a fifth of the time of a step with 140 MB of buffers.
"""

import ctypes
import gc
import logging
import math
import os
import warnings
from pathlib import Path
from typing import Any

import jax

from codi_jax import storage

# mallopt(3)
_TRIM_THRESHOLD, _MMAP_THRESHOLD, _MMAP_MAX, _ARENA_MAX = -1, -3, -4, -8


def _mallopt(settings: dict[int, int]) -> bool:
    libc = ctypes.CDLL(None)
    return hasattr(libc, "mallopt") and all(libc.mallopt(name, value) for name, value in settings.items())


def keep_freed_memory() -> bool:
    """Makes malloc keep freed memory for the next step. Returns whether the C library (glibc) supports it.

    The process then stays at its peak memory, so this is for processes that train or sample in a loop.
    """
    # One arena, since only the first can grow beyond 64 MiB without the kernel's help.
    return _mallopt({_MMAP_MAX: 0, _TRIM_THRESHOLD: 2**31 - 1, _ARENA_MAX: 1})


def return_freed_memory() -> bool:
    """Makes malloc return every freed large array to the system. Returns whether the C library (glibc) supports it.

    For processes that handle one large array after another in many threads. By default glibc raises its threshold up to
    32 MiB as arrays are freed, and every thread keeps freed memory in an arena.
    """
    return _mallopt({_MMAP_THRESHOLD: 2**20, _ARENA_MAX: 2})


# Options of the CPU compiler are chosen here. None is worthwhile for programs that run many times. Measured on the step
# of ldm.text of `digit_world`, in core seconds of compilation and core milliseconds per step (minimum of seven):
#     none                                       11.5 s   32 to 36 ms
#     xla_backend_optimization_level=1           11.7 s   32 ms
#     xla_backend_optimization_level=0            6.6 s   92 ms, so only for programs that run once
#     xla_cpu_parallel_codegen_split_count=1     11.7 s   32 ms
#     xla_cpu_use_fusion_emitters=false          17.2 s   36 ms
# xla_llvm_disable_expensive_passes=true took a tenth longer to compile than none, and the step was no faster.
_WORTHWHILE = 50_000_000  # output elements; unoptimized code takes about 0.1 µs more for each


def compiled_for_one_call(numbers: int) -> dict[str, int] | None:
    """Compiler options for a program that runs once, such as an initializer.

    On CPU optimization is not worthwhile unless the program computes many numbers.

    Args:
      numbers: how many elements its results have.
    """
    once = jax.default_backend() == "cpu" and numbers < _WORTHWHILE
    return {"xla_backend_optimization_level": 0} if once else None


def _no_orbax(entry: logging.LogRecord) -> bool:
    return "orbax" not in entry.pathname or entry.levelno >= logging.CRITICAL


def prepare_process() -> None:
    """Settings of every process of the command line, its workers included; a library must not change these.

    Garbage is collected less often: what tracing allocates stays alive, and collection takes a third of its time.
    Orbax's messages to developers (barriers, timings, unknown sharding) are hidden from the user's terminal.
    """
    gc.set_threshold(50_000, 20, 50)
    logging.getLogger("absl").addFilter(_no_orbax)


_CACHE = (
    "jax_compilation_cache_dir",
    "jax_persistent_cache_min_compile_time_secs",
    "jax_persistent_cache_enable_xla_caches",
)


def keep_programs(workdir: Path) -> None:
    """Sets jax's persistent compilation cache to a workdir, unless JAX_COMPILATION_CACHE_DIR names another directory.

    So a run that is resumed does not compile again: neither its step nor the many small programs around it, each of
    which takes longer to compile than to read. Buckets keep programs that take a second or more to compile. A read-only
    workdir is only read from.
    """
    # A full disk is reported once, by the write that needs it.
    warnings.filterwarnings("ignore", "Error writing persistent compilation cache entry")
    if "JAX_COMPILATION_CACHE_DIR" in os.environ:
        return
    if storage.is_remote(workdir):  # XLA writes some files itself, to local disks only
        jax.config.update("jax_persistent_cache_enable_xla_caches", "none")
    else:
        workdir = workdir.absolute()
        read_only = workdir.exists() and not os.access(workdir, os.W_OK)
        jax.config.update("jax_persistent_cache_min_compile_time_secs", math.inf if read_only else 0.0)
    jax.config.update("jax_compilation_cache_dir", str(workdir / "compiled"))


def kept_programs() -> dict[str, Any]:
    """The settings of the compilation cache, for `jax.config` of a process that this one starts."""
    return {name: getattr(jax.config, name) for name in _CACHE}
