"""The suite runs offline on CPU, with eight virtual devices; a warning of ours or of jax is an error."""

import atexit
import os
import shutil
import tempfile

os.environ["JAX_PLATFORMS"] = "cpu"
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count=8".strip()
# Programs that belong to no workdir are compiled anew in every run of the suite, and leave nothing behind.
os.environ["XDG_CACHE_HOME"] = tempfile.mkdtemp(prefix="codi-jax-cache-")
atexit.register(shutil.rmtree, os.environ["XDG_CACHE_HOME"], ignore_errors=True)

import hypothesis

hypothesis.settings.register_profile("suite", deadline=None, derandomize=True, max_examples=30)
hypothesis.settings.load_profile("suite")


def pytest_xdist_make_scheduler(config, log):
    """A file's tests run in one process, those of all files that read the trained toy in the same: it is trained once.

    (`--dist loadgroup` would do by marks, but pytest-xdist 3.8 writes them into a field that pytest 9 does not read.)
    """
    from xdist.scheduler import LoadScopeScheduling

    class ByFile(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            file = nodeid.split("::")[0]
            trained = "toy.trained()" in (config.rootpath / file).read_text(encoding="utf-8")
            return "trained toy" if trained else file

    return ByFile(config, log)
