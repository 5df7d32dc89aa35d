"""The suite runs offline on CPU, with eight virtual devices; a warning of ours or of jax is an error.

Its programs are large for what they compute, so they are compiled with little optimization, and once for all: its
workers and the processes that tests start share a folder of compiled programs, which goes with the suite.
"""

import atexit
import gc
import os
import shutil
import tempfile
from importlib import metadata

os.environ["JAX_PLATFORMS"] = "cpu"
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # as the program has it
if "PYTEST_XDIST_WORKER" not in os.environ:  # the workers inherit all this
    suite = tempfile.mkdtemp(prefix="codi-jax-suite-")
    atexit.register(shutil.rmtree, suite, ignore_errors=True)
    os.environ["CODI_JAX_SUITE"] = suite
    os.environ["XDG_CACHE_HOME"] = os.path.join(suite, "cache")
    # 60 small programs that are compiled take 9 s of a core, without optimization 4.6, without the emitters of fusions,
    # which set up a compiler of their own for each, 2.2, and 1.2 where they are in the folder.
    os.environ["JAX_DISABLE_MOST_OPTIMIZATIONS"] = "1"
    os.environ["JAX_COMPILATION_CACHE_DIR"] = os.path.join(suite, "compiled")
    os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
    flags = ["--xla_force_host_platform_device_count=8"]
    if metadata.version("jaxlib").startswith("0.10."):  # later ones have no other emitters, and refuse the flag
        flags += ["--xla_cpu_use_fusion_emitters=false", "--xla_cpu_parallel_codegen_split_count=1"]
    os.environ["XLA_FLAGS"] = " ".join([os.environ.get("XLA_FLAGS", ""), *flags]).strip()

import hypothesis
import jax
import pytest

gc.set_threshold(50_000, 20, 50)  # as the program has it

hypothesis.settings.register_profile("suite", deadline=None, derandomize=True, max_examples=30)
hypothesis.settings.load_profile("suite")


@pytest.fixture(scope="module", autouse=True)
def programs_of_a_file():
    """A worker that keeps what every file has traced and compiled grows to five gigabytes."""
    yield
    jax.clear_caches()


# What takes longest, so that no worker is left with it alone at the end.
FIRST = (
    "test_packaged_model.py",
    "train/test_trainer.py",
    "test_cli_public.py",
    "train/test_jobs.py",
    "objectives/test_steps.py",
    "test_cli.py",
    "parity/test_ddim.py",
)


def pytest_collection_modifyitems(config, items):
    rank = {config.rootpath / "tests" / file: i for i, file in enumerate(FIRST)}
    items.sort(key=lambda item: rank.get(item.path, len(rank)))


def pytest_xdist_make_scheduler(config, log):
    """The tests of a file run in one process, in the order above (`--dist loadfile` begins with the most tests)."""
    from xdist.scheduler import LoadFileScheduling

    config.option.loadscopereorder = False
    return LoadFileScheduling(config, log)
