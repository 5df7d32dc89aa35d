"""`load`: a pipeline from the files of a model.

Training is imported only to open a workdir, so that a packaged model is loaded without Orbax and grain.
"""

import dataclasses
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import jax.numpy as jnp

from codi_jax import packaged, storage
from codi_jax.codi import CoDi
from codi_jax.config import ConfigError, did_you_mean, from_dict
from codi_jax.pipeline import Pipeline
from codi_jax.plugins import import_plugins
from codi_jax.sampling.config import GenerateConfig
from codi_jax.sampling.weights import Weights

if TYPE_CHECKING:
    from codi_jax.train.recipe import Run

DTYPES = ("float32", "bfloat16", "float16")


def load(where: str | os.PathLike, *, dtype: Any = None, keep: bool = True, plugins: Sequence[str] = ()) -> Pipeline:
    """Opens a model. Weights are read when they are first used.

    Args:
      where: the name of a packaged model ("digit_world"), a folder that `codi-jax package` wrote, or the workdir of a
        run, a local path or one in an object store (gs://…, s3://…).
      dtype: of parameters and computation, "float32", "bfloat16" or "float16"; the config's if None.
      keep: whether the pipeline keeps what it has read. If not, every call reads again, and memory holds the networks
        one after the other.
      plugins: modules to import first. A model that needs plugins (`config.plugins`) is loaded only if they are named
        here or have been imported, since their code may be that of others.

    Raises:
      ConfigError: there is no such model, its files are damaged, no stage of the run has finished, or it needs plugins
        that have not been imported.
    """
    import_plugins([plugins] if isinstance(plugins, str) else plugins)
    name = os.fspath(where)
    if name in packaged.MODELS:
        return from_package(packaged.open_package(name), dtype=dtype, keep=keep)
    path = storage.check_access(where)
    if not path.exists():
        models = packaged.MODELS
        raise ConfigError(
            f"no model {name!r}{did_you_mean(name, models)}: it is neither a packaged one ({', '.join(models)}) nor a "
            "folder of `codi-jax package` or `codi-jax train`"
        )
    if packaged.is_package(path):
        return from_package(packaged.open_package(str(path)), dtype=dtype, keep=keep)
    if not (path / "config.json").exists():
        raise ConfigError(
            f"{path}: neither a folder that `codi-jax package` wrote (it has no {packaged.FILES['judges']}) nor a "
            "workdir of `codi-jax train` (it has no config.json)"
        )
    from codi_jax.train.recipe import load_run

    run = load_run(path)
    if not run.component_sources(run.finished_stages()):
        raise ConfigError(
            f"{path}: no stage of this run has finished; `codi-jax train --workdir={path}` goes on with it"
        )
    return from_run(run, dtype=dtype, keep=keep)


def _compute_type(dtype: Any) -> str:
    try:
        name = jnp.dtype(dtype).name
    except TypeError:
        name = ""
    if name not in DTYPES:
        raise ConfigError(f"dtype: expected one of {', '.join(DTYPES)}, got {dtype!r}")
    return name


def from_package(package: packaged.Package, *, dtype: Any = None, keep: bool = True) -> Pipeline:
    """The pipeline of an open package; for `dtype` and `keep` see `load`."""
    codi, run = package.codi, package.run
    if dtype is not None:
        codi = CoDi.from_config({**run["model"], "dtype": _compute_type(dtype)})
    weights = Weights(
        lambda components: package.read("model", components, codi.config.dtype),
        lambda components: package.check("model", components),
        keep,
    )
    return Pipeline(codi, from_dict(GenerateConfig, run["generate"], "generate"), weights)


def from_run(run: "Run", *, dtype: Any = None, keep: bool = True, random: bool = False) -> Pipeline:
    """The pipeline of a run, whose finished stages and `config.weights` have the weights.

    Args:
      run: a run, with or without a workdir.
      dtype: see `load`.
      keep: see `load`.
      random: whether to initialize components that have no weights.
    """
    from codi_jax.train.recipe import Run
    from codi_jax.train.variables import component_reader

    if dtype is not None:
        model = dataclasses.replace(run.config.model, dtype=_compute_type(dtype))
        run = Run(dataclasses.replace(run.config, model=model), run.workdir)
    weights = Weights(component_reader(run, random), lambda components: component_reader(run, random, components), keep)
    return Pipeline(run.codi, run.config.generate, weights)
