"""Which packages codi_jax asks for, with the extras of what it asks for, and whether their versions fit."""

from codi_jax.doctor.facts import Dependency
from codi_jax.doctor.requirements import dependencies, read_installation

ASKED = [
    "numpy<3,>=2",
    "tomli; python_version < '3'",
    'av<19,>=17; extra == "media"',
    'jax[cuda13]<0.13,>=0.10.2; extra == "cuda"',
]
OF_JAX = ["jaxlib", 'jax-cuda13-plugin[with-cuda]<=0.12,>=0.12; extra == "cuda13"', 'other; extra == "tpu"']
VERSIONS = {"numpy": "2.1.0", "av": "16.0", "jax": "0.12.0rc1"}


def test_versions_and_bounds():
    asks = {"jax": OF_JAX, "jax-cuda13-plugin": ['nvidia-cudnn>=9; extra == "with-cuda"']}
    found = dependencies(ASKED, ["media", "cuda"], VERSIONS.get, lambda name: asks.get(name, []))
    assert found == (
        Dependency("numpy", ">=2,<3", "2.1.0", True),
        Dependency("av", ">=17,<19", "16.0", False, "media"),
        Dependency("jax", ">=0.10.2,<0.13", "0.12.0rc1", True, "cuda"),
        Dependency("jax-cuda13-plugin", ">=0.12,<=0.12", None, False, "cuda"),
        Dependency("nvidia-cudnn", ">=9", None, False, "cuda"),
    )


def test_extras_that_name_each_other_end():
    asks = {"a": ['a[y]; extra == "x"', 'a[x]; extra == "y"']}
    found = dependencies(['a[x]; extra == "e"'], ["e"], VERSIONS.get, lambda name: asks[name])
    assert {x.name for x in found} == {"a"}


def test_this_installation():
    found = read_installation()
    assert found.installed and found.versions["jax"] and found.versions["jaxlib"]
    named = {(x.name, x.extra) for x in found.dependencies}
    assert {("jax", ""), ("av", "media"), ("jax-cuda13-plugin", "cuda"), ("libtpu", "plan")} <= named
    assert all(x.fits for x in found.dependencies if not x.extra)
