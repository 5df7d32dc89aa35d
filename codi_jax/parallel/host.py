"""What is particular to a host that is also the device: its memory, and what compiling on it costs.

XLA on CPU asks the C library for the buffers of every step and gives them back after it. Large ones glibc takes from
the kernel each time, which clears every page of them again: a fifth of the time of a step of 140 MB of buffers.
"""

import ctypes

import jax

# mallopt(3)
_TRIM_THRESHOLD, _MMAP_MAX, _ARENA_MAX = -1, -4, -8


def keep_freed_memory() -> bool:
    """Lets this process keep what it frees, for its next step; says whether it can (with glibc).

    Its memory then stays at its highest, so it is for processes that train or sample, step after step.
    """
    libc = ctypes.CDLL(None)
    if not hasattr(libc, "mallopt"):
        return False
    # One arena, since only the first can grow beyond 64 MiB without the kernel's help.
    settings = ((_MMAP_MAX, 0), (_TRIM_THRESHOLD, 2**31 - 1), (_ARENA_MAX, 1))
    return all(libc.mallopt(name, value) for name, value in settings)


_WORTHWHILE = 50_000_000  # numbers; unoptimised code takes some 0.1 µs more for each


def compiled_for_one_call(numbers: int) -> dict[str, int] | None:
    """Compiler options for a program that runs once and makes so many numbers, such as an initialiser.

    On CPU it is not worth optimising unless they are many.
    """
    once = jax.default_backend() == "cpu" and numbers < _WORTHWHILE
    return {"xla_backend_optimization_level": 0} if once else None
