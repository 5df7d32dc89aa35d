"""The suite runs offline on CPU, with eight virtual devices; a warning of ours or of jax is an error.

Its programs are large for what they compute, so they are compiled with little optimization, and once for all: its
workers and the processes that tests start share a folder of compiled programs, which goes with the suite.
"""

import atexit
import os
import shutil
import tempfile

os.environ["JAX_PLATFORMS"] = "cpu"
os.environ["HF_HUB_OFFLINE"] = "1"
if "PYTEST_XDIST_WORKER" not in os.environ:  # the workers inherit all this
    suite = tempfile.mkdtemp(prefix="codi-jax-suite-")
    atexit.register(shutil.rmtree, suite, ignore_errors=True)
    os.environ["CODI_JAX_SUITE"] = suite
    os.environ["XDG_CACHE_HOME"] = os.path.join(suite, "cache")
    os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count=8".strip()
    os.environ["JAX_DISABLE_MOST_OPTIMIZATIONS"] = "1"
    os.environ["JAX_COMPILATION_CACHE_DIR"] = os.path.join(suite, "compiled")
    os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0.1"

import hypothesis

hypothesis.settings.register_profile("suite", deadline=None, derandomize=True, max_examples=30)
hypothesis.settings.load_profile("suite")

# What takes longest, so that no worker is left with it alone at the end.
FIRST = (
    "train/test_loop.py",
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
