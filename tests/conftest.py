"""The suite runs offline on CPU, with eight virtual devices; a warning from our package or jax is an error.

Compilation takes most of its time, so programs are compiled with little optimization and only once: the workers and the
processes that tests start share a cache of compiled programs, and of bytecode, which is deleted after the suite.
"""

import atexit
import gc
import os
import shutil
import sys
import tempfile
from importlib import metadata

os.environ["JAX_PLATFORMS"] = "cpu"
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # as in the program
if "PYTEST_XDIST_WORKER" not in os.environ:  # workers inherit these variables
    suite = tempfile.mkdtemp(prefix="codi-jax-suite-")
    atexit.register(shutil.rmtree, suite, ignore_errors=True)
    os.environ["CODI_JAX_SUITE"] = suite
    os.environ["XDG_CACHE_HOME"] = os.path.join(suite, "cache")
    # Compiling 60 small programs takes 9 core seconds, 4.6 without optimization, 2.2 also without the fusion emitters
    # (which set up a compiler for each program), and 1.2 with the cache.
    os.environ["JAX_DISABLE_MOST_OPTIMIZATIONS"] = "1"
    os.environ["JAX_COMPILATION_CACHE_DIR"] = os.path.join(suite, "compiled")
    os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
    # Where Python writes no bytecode, each process that a test starts compiles its imports: 3 core seconds.
    if os.environ.pop("PYTHONDONTWRITEBYTECODE", None):
        os.environ["PYTHONPYCACHEPREFIX"] = sys.pycache_prefix = os.path.join(suite, "bytecode")
        sys.dont_write_bytecode = False  # or the workers are started with -B
    flags = ["--xla_force_host_platform_device_count=8"]
    if metadata.version("jaxlib").startswith("0.10."):  # later ones do not have these flags
        flags += ["--xla_cpu_use_fusion_emitters=false", "--xla_cpu_parallel_codegen_split_count=1"]
    os.environ["XLA_FLAGS"] = " ".join([os.environ.get("XLA_FLAGS", ""), *flags]).strip()

import hypothesis
import jax
import pytest

gc.set_threshold(50_000, 20, 50)  # as in the program

hypothesis.settings.register_profile("suite", deadline=None, derandomize=True, max_examples=30)
hypothesis.settings.load_profile("suite")


@pytest.fixture(scope="module", autouse=True)
def clear_caches():
    """Clears compiled programs after each file; otherwise a worker grows to five gigabytes."""
    yield
    jax.clear_caches()


@pytest.fixture
def restored_registries():
    """Entries that the test adds to registries are removed."""
    from tests import registries

    with registries.restored():
        yield


# The slowest files, started first so that the workers finish at about the same time. Those that read the trained toy
# wait for the one that trains it, so the first worker has something else to do meanwhile.
FIRST = (
    "test_packaged_model.py",
    "train/test_trainer.py",
    "objectives/test_steps.py",
    "train/test_interruptions.py",
    "train/test_jobs.py",
    "test_cli.py",
    "parity/test_ddim.py",
    "train/test_lora.py",
    "train/test_pairs.py",
    "train/test_continued.py",
    "train/test_encoding.py",
)


def pytest_collection_modifyitems(config, items):
    rank = {config.rootpath / "tests" / file: i for i, file in enumerate(FIRST)}
    items.sort(key=lambda item: rank.get(item.path, len(rank)))


def pytest_xdist_make_scheduler(config, log):
    """Runs the tests of a file in one process, in the order above (`--dist loadfile` starts with the largest files)."""
    from xdist.scheduler import LoadFileScheduling

    config.option.loadscopereorder = False
    return LoadFileScheduling(config, log)
