"""Packages, read: files are opened, and downloaded, when they are first needed."""

import functools
import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import ml_dtypes
import numpy as np

from codi_jax import storage
from codi_jax.codi import CoDi
from codi_jax.config import ConfigError, few, first_line
from codi_jax.data.tokenizer import RELEASE, VOCABULARIES
from codi_jax.hub import card
from codi_jax.hub import repository as hub
from codi_jax.interop import shards
from codi_jax.interop.mapped import map_file, plain
from codi_jax.interop.safetensors_file import read_safetensors
from codi_jax.parallel import paths
from codi_jax.plugins import check_imported

MODELS: dict[str, Path] = {"digit_world": Path(__file__).parents[1] / "digit_world" / "weights"}
DEFAULT = "digit_world"

FILES = {kind: f"{kind}.safetensors" for kind in ("model", "judges", "similarity")}
DTYPES: dict[str, np.dtype] = {
    "float16": np.dtype(np.float16),
    "bfloat16": np.dtype(ml_dtypes.bfloat16),
    "float32": np.dtype(np.float32),
}
CARD = "card.json"
INSIDE = "package:"  # before the folder of a tokenizer, in config.json
_TOKENIZER = re.compile(r"tokenizers/[0-9]{1,3}/[A-Za-z0-9][\w.-]*", re.ASCII)
_MAX_JSON = 16 << 20  # bytes


class Package:
    """One packaged model; files are opened when they are first read.

    Attributes:
      name: the name, folder or hf://org/name@commit that was opened.
      directory: the directory of the files.
      started_from: a list of configs, see the module docstring.

    Raises:
      ConfigError: config.json is missing or damaged.
    """

    def __init__(self, name: str, directory: Path, remedy: str, repository: hub.Repository | None = None):
        """`repository`, if there is one, has the other files; they are downloaded when they are first read."""
        self.name, self.directory, self._remedy, self._repository = name, directory, remedy, repository
        self._opened: dict[str, dict[str, np.ndarray]] = {}
        self._checked: set[str] = set()
        self._fetched: set[str] = set()
        try:
            tree = read_json(directory / "config.json")
            self._run, self._judges, self._files = tree.get("run"), tree.get("judges"), dict(tree["files"])
            self.started_from: tuple[dict[str, Any], ...] = tuple(tree.get("started_from", ()))
            if self._judges is not None and (missing := {"model", "settings"} - self._judges.keys()):
                raise KeyError(*missing)
            if self._run is None:
                _ = tree["judges"]
            elif not all(isinstance(plugin, str) for plugin in self._run.get("plugins", ())):
                raise TypeError
        except ConfigError as error:
            raise self._damaged("config.json", error) from None
        except (ValueError, KeyError, TypeError, AttributeError):
            raise self._damaged("config.json", "is damaged") from None

    def _damaged(self, file: str, what: object) -> ConfigError:
        where = f"{self.name}: {file}" if self._repository is not None else self.directory / file
        return ConfigError(f"{where}: {what}; {self._remedy}")

    @functools.cached_property
    def run(self) -> dict[str, Any]:
        """The resolved config of the run that trained the model.

        Raises:
          ConfigError: there is no model, it needs plugins that have not been imported, or config.json is damaged.
        """
        if self._run is None:
            raise ConfigError(f"{self.name} has judges only, no model to generate with")
        check_imported(self._run.get("plugins", ()), self.name)
        try:
            model = {**self._run["model"]}
            model["modalities"] = {name: self._with_tokenizers(of) for name, of in model["modalities"].items()}
        except (LookupError, TypeError, AttributeError):
            raise self._damaged("config.json", "is not the config of a model") from None
        return {**self._run, "model": model}

    def _with_tokenizers(self, modality: Mapping[str, Any]) -> dict[str, Any]:
        """The config of a modality with the folders of tokenizers that are in the package."""
        out = {**modality}
        if "tokenizers" in out:
            out["tokenizers"] = [self._tokenizer(name) for name in out["tokenizers"]]
        return out

    def _tokenizer(self, name: str) -> str:
        kind, inside, place = name.partition(INSIDE)
        if inside:
            if kind not in ("", *(f"{of}:" for of in RELEASE)) or not re.fullmatch(r"tokenizers/[0-9]{1,3}", place):
                raise self._damaged("config.json", f"refused: {plain(name)} is no tokenizer of this package")
            return f"{kind}{self.directory / place}"
        if self._repository is not None and name not in VOCABULARIES:
            raise self._damaged("config.json", f"refused: its tokenizer {plain(name)} is not in the repository")
        return name

    @property
    def judges(self) -> dict[str, Any]:
        """{"model", "settings"} of the judges, see the module docstring.

        Raises:
          ConfigError: there are no judges.
        """
        if self._judges is None:
            raise ConfigError(f"{self.name} has no judges; name a package that has them, such as {DEFAULT}")
        return self._judges

    @functools.cached_property
    def codi(self) -> CoDi:
        """The model."""
        return self.with_dtype(None)

    def with_dtype(self, dtype: str | None) -> CoDi:
        """The model with another compute type; its own if None.

        Raises:
          ConfigError: config.json does not have the config of a model, or see `run`.
        """
        run = self.run
        try:
            return CoDi.from_config(run["model"] if dtype is None else {**run["model"], "dtype": dtype})
        except ConfigError:
            raise
        except (LookupError, ArithmeticError, TypeError, ValueError, AttributeError, MemoryError) as error:
            raise self._damaged("config.json", f"is not the config of a model ({first_line(error)})") from error

    @functools.cached_property
    def judging(self) -> CoDi:
        """The model whose modalities preprocess raw values for judges and similarity towers."""
        return CoDi.from_config(self.judges["model"])

    def fetch(self, kind: str) -> None:
        """Downloads one of the files, if the package is on the hub and it is not in the cache; with tokenizers.

        Raises:
          ConfigError: there is no such file, a tokenizer is damaged; or see `hub.repository.snapshot`.
        """
        if kind in self._fetched:
            return
        names = [name for name in self._files if isinstance(name, str) and shards.is_of(name, FILES[kind])]
        if not names:
            raise self._damaged("config.json", f"does not list {FILES[kind]}")
        tokenizers = [name for name in self._files if isinstance(name, str) and _TOKENIZER.fullmatch(name)]
        if self._repository is not None:
            hub.snapshot(self._repository, [*names, f"{FILES[kind]}{shards.INDEX}", *tokenizers])
        for name in tokenizers:
            self._map(name)
        self._fetched.add(kind)

    def _tensors(self, kind: str) -> dict[str, np.ndarray]:
        """Path -> read-only array of one of the files, after its checksum has been verified."""
        if kind not in self._opened:
            self.fetch(kind)
            file = FILES[kind]
            if file in self._files:
                self._opened[kind] = self._open(self.directory / file)
            else:
                self._opened[kind] = self._open_shards(self.directory / f"{file}{shards.INDEX}")
        return self._opened[kind]

    def _open(self, path: Path) -> dict[str, np.ndarray]:
        """The arrays of a file that config.json lists."""
        data = self._map(path.name)
        try:
            return read_safetensors(data)
        except ConfigError as error:
            raise self._damaged(path.name, error) from None

    def _map(self, name: str) -> np.ndarray:
        """The bytes of a file that config.json lists."""
        try:
            data = map_file(self.directory / name)
        except ConfigError as error:
            raise self._damaged(name, error) from None
        if hashlib.sha256(data.data).hexdigest() != self._files[name]:
            raise self._damaged(name, "is not the file that was packaged")
        return data

    def _open_shards(self, index: Path) -> dict[str, np.ndarray]:
        """The arrays of the shards of an index, all of which config.json lists."""
        try:
            (found,) = shards.checkpoints([index])
        except ConfigError as error:
            raise self._damaged(index.name, str(error).removeprefix(f"{index}: ")) from None
        if others := [plain(path.name) for path in found.files if path.name not in self._files]:
            raise self._damaged(index.name, f"refused: config.json does not list {few(others)}")
        return found.open(self._open)

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
        if kind == "model" and self._run is not None and self.directory not in MODELS.values():
            self._check_leaves(wanted)
        return wanted

    def _check_leaves(self, components: set[str]) -> None:
        """Checks that the leaves of these components, and all constants, are those of the config's model."""
        new = components - self._checked
        if not new:
            return
        names = new & {*self.codi.component_names()}
        expected = paths.flatten({"params": {component: self.codi.shapes(component) for component in names}})
        expected |= paths.flatten({"constants": self.codi.default_constants()})
        prefixes = ("constants/", *(f"params/{component}/" for component in names))
        saved = {path: x for path, x in self._tensors("model").items() if path.startswith(prefixes)}
        for path in sorted(saved.keys() | expected.keys()):
            have = saved[path].shape if path in saved else None
            want = np.shape(expected[path]) if path in expected else None
            if have != want:
                what = f"{plain(path)} has shape {have}, in the model of config.json {want}"
                raise self._damaged(FILES["model"], what)
            dtypes = tuple(DTYPES.values()) if path.startswith("params/") else (DTYPES["float32"],)
            if saved[path].dtype not in dtypes:
                what = f"{plain(path)} is {saved[path].dtype}, not {' or '.join(map(str, dtypes))}"
                raise self._damaged(FILES["model"], what)
        self._checked |= new

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


def open_package(name: str) -> Package:
    """Opens the packaged model of this name, a folder of `codi-jax package` or `save_pretrained`, or hf://org/name.

    Of a model on the hub config.json is downloaded, and the other files when they are first read.

    Raises:
      ConfigError: there is no such model, its config.json is missing or damaged, or see `hub.repository.snapshot`.
    """
    if name in MODELS:
        return Package(name, MODELS[name], "reinstall codi_jax")
    if hub.is_hub(name):
        asked = hub.parse(name)
        directory = hub.snapshot(asked, ["config.json", CARD, card.NAME])
        repository = hub.Repository(asked.name, directory.name)  # one commit for all files
        return Package(str(repository), directory, "expected a repository that `push_to_hub` wrote", repository)
    directory = storage.check_access(name)
    if not directory.is_dir():
        raise ConfigError(
            f"no packaged model {name!r}; there is {', '.join(MODELS)}, or give a folder that `codi-jax package` wrote "
            "or hf://ORGANISATION/NAME"
        )
    return Package(name, directory, "write it again with `codi-jax package` or `save_pretrained`")


def is_package(name: str | Path) -> bool:
    """Whether this is the name, address on the hub or folder of a package, maybe of judges only, and no workdir."""
    if str(name) in MODELS or hub.is_hub(name):
        return True
    folder = storage.as_path(name)
    return any((folder / f"{file}{end}").exists() for file in FILES.values() for end in ("", shards.INDEX))


def read_json(path: Path) -> Any:
    """The contents of a JSON file of a package.

    Raises:
      ConfigError: it is missing, not JSON, or too large.
    """
    data = map_file(path)
    if data.size > _MAX_JSON:
        raise ConfigError(f"refused: it has {data.size} bytes, more than {_MAX_JSON}")
    try:
        return json.loads(data.tobytes())
    except (ValueError, RecursionError):
        raise ConfigError("is damaged") from None
