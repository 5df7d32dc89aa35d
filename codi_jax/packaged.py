"""Trained models in files inside the Python package, read without a workdir.

    model.safetensors         params/COMPONENT/PATH and constants/COMPONENT/PATH of the model
    judges.safetensors        params/COMPONENT/PATH of the networks that classify its outputs
    similarity.safetensors    params/COMPONENT/PATH of the towers that embed its outputs to compare them
    config.json               "run": the resolved config of the training run; "started_from": those of the runs that
                              trained what it started from, if it did; "judges": {"model", "settings"}, the
                              config.model whose preprocessing judges use and a JudgeConfig by modality; "files": sha256
    card.json, card.md        origin and quality of the weights

Parameters are stored in half precision, rounded to nearest even, constants in float32. A folder of judges only has no
"run" and no model.safetensors.
"""

import functools
import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np

from codi_jax import storage
from codi_jax.codi import CoDi
from codi_jax.config import ConfigError
from codi_jax.interop.mapped import map_file
from codi_jax.interop.safetensors_file import read_safetensors
from codi_jax.parallel import paths
from codi_jax.plugins import check_imported
from codi_jax.types import PyTree

MODELS: dict[str, Path] = {"digit_world": Path(__file__).parent / "digit_world" / "weights"}
DEFAULT = "digit_world"

FILES = {kind: f"{kind}.safetensors" for kind in ("model", "judges", "similarity")}
DTYPES: dict[str, np.dtype] = {
    "float16": np.dtype(np.float16),
    "bfloat16": np.dtype(ml_dtypes.bfloat16),
    "float32": np.dtype(np.float32),
}


class Package:
    """One packaged model; files are opened when they are first read.

    Attributes:
      name: the name or folder that was opened.
      directory: the directory of the files.
      judges, started_from: {"model", "settings"} and a list of configs, see the module docstring.

    Raises:
      ConfigError: config.json is missing or damaged.
    """

    def __init__(self, name: str, directory: Path, remedy: str):
        self.name, self.directory, self._remedy = name, directory, remedy
        self._opened: dict[str, dict[str, np.ndarray]] = {}
        try:
            tree = json.loads(map_file(directory / "config.json").tobytes())
            self._run, self.judges, self._files = tree.get("run"), tree["judges"], dict(tree["files"])
            self.started_from: tuple[dict[str, Any], ...] = tuple(tree.get("started_from", ()))
            if missing := {"model", "settings"} - self.judges.keys():
                raise KeyError(*missing)
        except ConfigError as error:
            raise self._damaged("config.json", error) from None
        except (ValueError, KeyError, TypeError, AttributeError):
            raise self._damaged("config.json", "is damaged") from None

    def _damaged(self, file: str, what: object) -> ConfigError:
        return ConfigError(f"{self.directory / file}: {what}; {self._remedy}")

    @property
    def run(self) -> dict[str, Any]:
        """The resolved config of the run that trained the model.

        Raises:
          ConfigError: there is no model, or it needs plugins that have not been imported.
        """
        if self._run is None:
            raise ConfigError(f"{self.name} has judges only, no model to generate with")
        check_imported(self._run.get("plugins", ()), self.name)
        return self._run

    @functools.cached_property
    def codi(self) -> CoDi:
        """The model."""
        return CoDi.from_config(self.run["model"])

    @functools.cached_property
    def judging(self) -> CoDi:
        """The model whose modalities preprocess raw values for judges and similarity towers."""
        return CoDi.from_config(self.judges["model"])

    def _tensors(self, kind: str) -> dict[str, np.ndarray]:
        """Path -> read-only array of one of the files, after its checksum has been verified."""
        file = FILES[kind]
        if file not in self._files:
            raise self._damaged("config.json", f"does not list {file}")
        if kind not in self._opened:
            try:
                data = map_file(self.directory / file)
                if hashlib.sha256(data.data).hexdigest() != self._files[file]:
                    raise ConfigError("is not the file that was packaged")
                self._opened[kind] = read_safetensors(data)
            except ConfigError as error:
                raise self._damaged(file, error) from None
        return self._opened[kind]

    def components(self, kind: str) -> tuple[str, ...]:
        """The components whose parameters are in one of the files; for `kind` and errors see `read`."""
        paths_ = (path for path in self._tensors(kind) if path.startswith("params/"))
        return tuple(dict.fromkeys(path.split("/")[1] for path in paths_))

    def check(self, kind: str, components: Iterable[str]) -> None:
        """Checks that `read` can read these components.

        Raises:
          ConfigError: see `read`.
        """
        self._check(kind, components)

    def _check(self, kind: str, components: Iterable[str] | None) -> set[str]:
        available = set(self.components(kind))
        wanted = available if components is None else set(components)
        if missing := sorted(wanted - available):
            raise self._damaged(FILES[kind], f"lacks {', '.join(missing)}")
        return wanted

    def read(self, kind: str, components: Iterable[str] | None = None, dtype: Any = np.float32) -> dict[str, Any]:
        """Variables {"params", "constants"} of one of the files.

        Args:
          kind: a key of `FILES`.
          components: the components whose parameters are read (None: all); constants are always read for all.
          dtype: of the parameters; constants are float32.

        Raises:
          ConfigError: the file is missing or damaged, or does not have a component.
        """
        wanted, flat = self._check(kind, components), self._tensors(kind)
        out: dict[str, Any] = {"params": {}, "constants": {}}
        params = {p: jnp.asarray(np.asarray(x, jnp.dtype(dtype))) for p, x in flat.items() if p.split("/")[1] in wanted}
        constants = {p: jnp.asarray(x) for p, x in flat.items() if p.startswith("constants/")}
        return out | paths.nest({**params, **constants})


class PackageReader:
    """Reads single arrays of a packaged model, as `CheckpointReader` does those of a checkpoint.

    Attributes:
      shapes: path -> shape and dtype of every leaf.

    Raises:
      ConfigError: model.safetensors is missing or damaged.
    """

    def __init__(self, package: Package):
        self._tensors = package._tensors("model")
        self.shapes = {path: jax.ShapeDtypeStruct(x.shape, x.dtype) for path, x in self._tensors.items()}

    def read(self, path: str) -> np.ndarray:
        """One leaf, in the type in which it is stored."""
        return np.asarray(self._tensors[path])

    def read_into(self, leaves: Mapping[str, jax.ShapeDtypeStruct]) -> dict[str, Any]:
        """Path -> array, for leaves of this dtype and sharding."""
        return {p: jax.device_put(self.read(p).astype(leaf.dtype), leaf.sharding) for p, leaf in leaves.items()}


def open_package(name: str) -> Package:
    """Opens the packaged model of this name, or a folder that `codi-jax package` wrote.

    Raises:
      ConfigError: there is no such model, or its config.json is missing or damaged.
    """
    if name in MODELS:
        return Package(name, MODELS[name], "reinstall codi_jax")
    directory = storage.check_access(name)
    if not directory.is_dir():
        raise ConfigError(
            f"no packaged model {name!r}; there is {', '.join(MODELS)}, or give a folder that `codi-jax package` wrote"
        )
    return Package(name, directory, "write it again with `codi-jax package`")


def is_package(name: str | Path) -> bool:
    """Whether this is the name of a packaged model, or the folder of one (or of judges only) rather than a workdir."""
    return str(name) in MODELS or (storage.as_path(name) / FILES["judges"]).exists()


def rounded(tree: PyTree, dtype: str) -> PyTree:
    """A tree of parameters, rounded to the type in which a package stores them.

    Raises:
      ConfigError: a parameter overflows the type.
    """

    def cast(path: str, leaf: Any) -> np.ndarray:
        with np.errstate(over="ignore"):
            out = np.asarray(leaf).astype(DTYPES[dtype])
        if not np.isfinite(out.astype(np.float32)).all():
            raise ConfigError(f"{path} does not fit {dtype}: its maximum is {np.abs(np.asarray(leaf)).max():g}")
        return out

    return paths.replace(tree, {path: cast(path, leaf) for path, leaf in paths.flatten(tree).items()})


def write(directory: Path, weights: Mapping[str, Mapping[str, Any]], config: Mapping[str, Any], dtype: str) -> None:
    """Writes the safetensors files, then config.json, which marks the package as complete.

    Args:
      directory: where to write; created if absent.
      weights: key of `FILES` -> {"params", "constants"}; "constants" may be absent.
      config: "judges" and, with a model, "run"; see the module docstring.
      dtype: a key of `DTYPES`, the type in which parameters are stored.

    Raises:
      ConfigError: a parameter overflows the type.
    """
    from safetensors.numpy import save

    if dtype not in DTYPES:
        raise ConfigError(f"dtype: expected one of {', '.join(DTYPES)}, got {dtype!r}")
    directory.mkdir(parents=True, exist_ok=True)
    sums = {}
    for kind, variables in weights.items():
        constants = jax.tree.map(lambda x: np.asarray(x, np.float32), variables.get("constants", {}))
        flat = paths.flatten({"params": rounded(variables["params"], dtype), "constants": constants})
        data = save({path: np.asarray(array, order="C") for path, array in flat.items()})
        sums[FILES[kind]] = hashlib.sha256(data).hexdigest()
        with storage.atomic_write(directory / FILES[kind]) as temporary:
            temporary.write_bytes(data)
    storage.write_text(directory / "config.json", json.dumps({**config, "files": sums}, indent=1) + "\n")
