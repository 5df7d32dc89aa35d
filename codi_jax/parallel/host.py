"""What is particular to a process: its memory, what compiling costs it, where it keeps programs, what it prints.

A program calls these; a library that only imports codi_jax is left as it is.

XLA on CPU asks the C library for the buffers of every step and gives them back after it. Large ones glibc takes from
the kernel each time, which clears every page of them again: a fifth of the time of a step of 140 MB of buffers.
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
    """Lets this process keep what it frees, for its next step; says whether it can (with glibc).

    Its memory then stays at its highest, so it is for processes that train or sample, step after step.
    """
    # One arena, since only the first can grow beyond 64 MiB without the kernel's help.
    return _mallopt({_MMAP_MAX: 0, _TRIM_THRESHOLD: 2**31 - 1, _ARENA_MAX: 1})


def return_freed_memory() -> bool:
    """Has this process give back every large array that it frees; says whether it can (with glibc).

    For processes that handle one large array after the other, in many threads. Left to itself glibc stops giving back
    what is below 32 MiB once it has seen it freed, and each thread keeps its own.
    """
    return _mallopt({_MMAP_THRESHOLD: 2**20, _ARENA_MAX: 2})


# Options of the CPU compiler are decided here. For what runs many times none has paid. On the step of ldm.text of
# configs/four.py, in core seconds of compilation and core milliseconds a step (the least of seven):
#     none                                       11.5 s   32 to 36 ms
#     xla_backend_optimization_level=1           11.7 s   32 ms
#     xla_backend_optimization_level=0            6.6 s   92 ms, so only for what runs once
#     xla_cpu_parallel_codegen_split_count=1     11.7 s   32 ms
#     xla_cpu_use_fusion_emitters=false          17.2 s   36 ms
# and xla_llvm_disable_expensive_passes=true took a tenth longer than none, with no faster a step.
_WORTHWHILE = 50_000_000  # numbers; unoptimised code takes some 0.1 µs more for each


def compiled_for_one_call(numbers: int) -> dict[str, int] | None:
    """Compiler options for a program that runs once and makes so many numbers, such as an initialiser.

    On CPU it is not worth optimising unless they are many.
    """
    once = jax.default_backend() == "cpu" and numbers < _WORTHWHILE
    return {"xla_backend_optimization_level": 0} if once else None


def collect_garbage_less_often() -> None:
    """For programs that trace: what tracing makes is kept, and a third of its time goes into looking for garbage."""
    gc.set_threshold(50_000, 20, 50)


def _no_orbax(entry: logging.LogRecord) -> bool:
    return "orbax" not in entry.pathname or entry.levelno >= logging.CRITICAL


def hide_orbax_logs() -> None:
    """Keeps what Orbax tells its developers (barriers, timings, unknown sharding) out of the user's terminal."""
    logging.getLogger("absl").addFilter(_no_orbax)


_CACHE = (
    "jax_compilation_cache_dir",
    "jax_persistent_cache_min_compile_time_secs",
    "jax_persistent_cache_enable_xla_caches",
)


def keep_programs(workdir: Path) -> None:
    """Lets compiled programs outlive this process in a workdir, unless JAX_COMPILATION_CACHE_DIR names another folder.

    So an interrupted run goes on without compiling anew: not its step, and not the many small programs around it, each
    of which takes longer to compile than to read. Buckets keep what takes a second to compile. From a workdir that may
    not be written programs are only read.
    """
    # A full disk is told of once, by what has to be written.
    warnings.filterwarnings("ignore", "Error writing persistent compilation cache entry")
    if "JAX_COMPILATION_CACHE_DIR" in os.environ:
        return
    if storage.is_remote(workdir):  # XLA writes some files itself, to disks only
        jax.config.update("jax_persistent_cache_enable_xla_caches", "none")
    else:
        workdir = workdir.absolute()
        read_only = workdir.exists() and not os.access(workdir, os.W_OK)
        jax.config.update("jax_persistent_cache_min_compile_time_secs", math.inf if read_only else 0.0)
    jax.config.update("jax_compilation_cache_dir", str(workdir / "compiled"))


def kept_programs() -> dict[str, Any]:
    """Where this process keeps programs, and which; for `jax.config` of a process that it starts."""
    return {name: getattr(jax.config, name) for name in _CACHE}
