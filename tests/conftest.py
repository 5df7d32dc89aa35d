"""The suite runs offline on CPU, with eight virtual devices; a warning of ours or of jax is an error."""

import os

os.environ["JAX_PLATFORMS"] = "cpu"
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count=8".strip()

import hypothesis
import pytest

hypothesis.settings.register_profile("suite", deadline=None, derandomize=True, max_examples=30)
hypothesis.settings.load_profile("suite")


def pytest_collection_modifyitems(items):
    """A file's tests run in one process (`--dist loadgroup`), those of all files that read the trained toy in the same:
    it is trained once."""
    for item in items:
        trained = "toy.trained()" in item.path.read_text(encoding="utf-8")
        item.add_marker(pytest.mark.xdist_group("trained toy" if trained else str(item.path)))
