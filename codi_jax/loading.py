"""`load`: a pipeline from the files of a model.

Training is imported only to open a workdir, so that a packaged model is loaded without Orbax and grain.
"""

import dataclasses
import hashlib
import json
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp

from codi_jax import __version__, packaged, storage
from codi_jax.config import ConfigError, did_you_mean, from_dict, to_dict
from codi_jax.hub import repository as hub
from codi_jax.parallel import MeshConfig, make_mesh, replicate
from codi_jax.pipeline import Pipeline
from codi_jax.plugins import import_plugins
from codi_jax.pretrained import ModelSource
from codi_jax.sampling.config import GenerateConfig
from codi_jax.sampling.weights import Weights

if TYPE_CHECKING:
    from codi_jax.train.recipe import Run

DTYPES = ("float32", "bfloat16", "float16")


def load(
    where: str | os.PathLike,
    *,
    dtype: Any = None,
    keep: bool = True,
    all_devices: bool = False,
    plugins: Sequence[str] = (),
    adapters: Any = (),
) -> Pipeline:
    """Opens a model. Weights are read when they are first used.

    Args:
      where: the name of a packaged model ("digit_world"); a folder that `Pipeline.save_pretrained` or
        `codi-jax package` wrote, or the workdir of a run, a local path or one in an object store (gs://…, s3://…); or a
        repository on the Hugging Face hub, "hf://org/name" or "hf://org/name@revision", which is downloaded to
        huggingface_hub's cache.
      dtype: of parameters and computation, "float32", "bfloat16" or "float16"; the config's if None.
      keep: whether the pipeline keeps what it has read. If not, every call reads again, and memory holds the networks
        one after the other.
      all_devices: whether batches are divided over all devices, whose number should divide their size. Parameters are
        on each of them, or sharded as the mesh of a run says; in a run of several processes all must make every call.
        If not, one device computes, unless the mesh of a run shards the parameters.
      plugins: modules to import first. A model that needs plugins (`config.plugins`) is loaded only if they are named
        here or have been imported, since their code may be that of others.
      adapters: LoRA adapters that are added to the weights, see `Pipeline.with_adapters`.

    Raises:
      ConfigError: there is no such model, its files are damaged, no stage of the run has finished, it needs plugins
        that have not been imported, or an adapter cannot be read; of the hub, see `hub.repository.snapshot`.
    """
    import_plugins([plugins] if isinstance(plugins, str) else plugins)
    pipe = _load(where, dtype=dtype, keep=keep, all_devices=all_devices)
    return pipe.with_adapters(adapters) if adapters else pipe


def _load(where: str | os.PathLike, **options: Any) -> Pipeline:
    """The pipeline without adapters; the options are arguments of `load`."""
    name = os.fspath(where)
    if name in packaged.MODELS or hub.is_hub(name):
        return from_package(packaged.open_package(name), **options)
    path = storage.check_access(where)
    if not path.exists():
        models = packaged.MODELS
        raise ConfigError(
            f"no model {name!r}{did_you_mean(name, models)}: it is neither a packaged one ({', '.join(models)}) nor a "
            "folder of `save_pretrained`, `codi-jax package` or `codi-jax train`; of the hub it is hf://ORGANISATION/NAME"
        )
    if packaged.is_package(path):
        return from_package(packaged.open_package(str(path)), **options)
    if not (path / "config.json").exists():
        raise ConfigError(
            f"{path}: neither a folder that `save_pretrained` or `codi-jax package` wrote (it has no "
            f"{packaged.FILES['model']}) nor a workdir of `codi-jax train` (it has no config.json)"
        )
    from codi_jax.train.recipe import load_run

    run = load_run(path)
    if not run.component_sources(run.finished_stages()):
        raise ConfigError(
            f"{path}: no stage of this run has finished; `codi-jax train --workdir={path}` goes on with it"
        )
    return from_run(run, **options)


def _compute_type(dtype: Any) -> str:
    try:
        name = jnp.dtype(dtype).name
    except TypeError:
        name = ""
    if name not in DTYPES:
        raise ConfigError(f"dtype: expected one of {', '.join(DTYPES)}, got {dtype!r}")
    return name


def from_package(
    package: packaged.Package, *, dtype: Any = None, keep: bool = True, all_devices: bool = False
) -> Pipeline:
    """The pipeline of an open package; for the other arguments see `load`."""
    run = package.run
    codi = package.codi if dtype is None else package.with_dtype(_compute_type(dtype))
    settings = from_dict(GenerateConfig, run.get("generate"), "generate")
    package.fetch("model")
    mesh = make_mesh(MeshConfig(fsdp=1)) if all_devices and jax.device_count() > 1 else None

    def read(components: tuple[str, ...]) -> dict[str, Any]:
        found = package.read("model", components, codi.config.dtype)
        return found if mesh is None else replicate(found, mesh)

    weights = Weights(
        read,
        lambda components: package.check("model", components),
        keep,
    )
    return Pipeline(codi, settings, weights, ModelSource(run, package.started_from, package.directory))


def from_run(
    run: "Run", *, dtype: Any = None, keep: bool = True, random: bool = False, all_devices: bool = False
) -> Pipeline:
    """The pipeline of a run, whose finished stages and `config.weights` have the weights.

    Args:
      run: a run, with or without a workdir.
      dtype: see `load`.
      keep: see `load`.
      random: whether to initialize components that have no weights.
      all_devices: see `load`.
    """
    from codi_jax.train.recipe import Run
    from codi_jax.train.variables import component_reader

    if dtype is not None:
        model = dataclasses.replace(run.config.model, dtype=_compute_type(dtype))
        run = Run(dataclasses.replace(run.config, model=model), run.workdir)
    weights = Weights(
        component_reader(run, random, all_devices=all_devices),
        lambda components: component_reader(run, random, components),
        keep,
    )
    source = ModelSource({"plugins": run.config.plugins}, (), run.workdir)
    return Pipeline(run.codi, run.config.generate, weights, source)


def identity(where: str | os.PathLike) -> str:
    """What the results of a model depend on: its name and version if it is packaged, else a digest of its weights.

    Args:
      where: see `load`, which accepts it.
    """
    if packaged.is_package(name := os.fspath(where)):
        return identity_of_package(packaged.open_package(name))
    from codi_jax.train.recipe import load_run

    return identity_of_run(load_run(storage.as_path(where)))


def identity_of_package(package: packaged.Package) -> str:
    """The name and version of a packaged model, the commit of one on the hub, else a digest of the files."""
    if package.name in packaged.MODELS:
        return f"{package.name}, packaged with codi_jax {__version__}"
    if hub.is_hub(package.name):
        return package.name
    path = package.directory
    local = not storage.is_remote(path)
    rows = [
        [name, file.bytes, file.etag, (path / name).stat().st_mtime_ns if local else 0]
        for name, file in sorted(storage.listing(path).items())
    ]
    return hashlib.sha256(json.dumps(rows).encode()).hexdigest()


def identity_of_run(run: "Run") -> str:
    """A digest of the weights of a run, and of the config of its model."""
    stages = tuple(name for name in run.finished_stages() if run.stage(name).trains)
    return run.fingerprint(stages, to_dict(run.config.model))
