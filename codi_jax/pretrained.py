"""What a pipeline is saved as: the files of a package (`codi_jax.packaged`) without judges, and a card for the hub.

model.safetensors, or shards with model.safetensors.index.json
config.json      "run": {"model", "generate", "plugins", …}, "files"
tokenizers/      the files of tokenizers, which config.json names as package:tokenizers/0
card.json        licence and numbers, from the package of which the model was loaded, or metrics.json of its run
README.md        the same for readers and for the hub
"""

import dataclasses
import json
import re
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax

from codi_jax import __version__, packaged, storage
from codi_jax.codi import CoDi
from codi_jax.config import ConfigError, to_dict
from codi_jax.data.tokenizer import save_tokenizer
from codi_jax.hub import card
from codi_jax.hub import repository as hub
from codi_jax.interop import shards
from codi_jax.packaged.package import INSIDE, read_json
from codi_jax.parallel import distributed
from codi_jax.sampling.config import GenerateConfig

_STORED = "stored as "
_MOST_TEXT = 1 << 20  # bytes


@dataclasses.dataclass(frozen=True)
class ModelSource:
    """Where a model comes from.

    Attributes:
      run: sections of the config of its run that a package keeps, beside "model" and "generate".
      started_from: the configs of the runs that trained what it started from.
      folder: of the package or the run, which may have numbers and a card; None if there is none.
      measured: whether those numbers are of this model, with these weights and settings.
    """

    run: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    started_from: tuple[Mapping[str, Any], ...] = ()
    folder: Path | None = None
    measured: bool = True

    def changed(self) -> "ModelSource":
        """Of a model with other weights or settings, whose numbers are not known."""
        return dataclasses.replace(self, measured=False)


def save(
    folder: Path,
    codi: CoDi,
    config: GenerateConfig,
    variables: Mapping[str, Any],
    source: ModelSource,
    *,
    max_shard_size: str | int = shards.DEFAULT_SIZE,
    dtype: str | None = None,
    license: str | None = None,
    title: str = "",
) -> None:
    """Writes a model to a folder; see `Pipeline.save_pretrained`. A collective: every process must call it."""
    if (folder / "config.json").exists() and not packaged.is_package(folder):
        raise ConfigError(f"{folder}: has a config.json of something else, such as a run; choose another folder")
    shards.num_bytes(max_shard_size)
    run = {"plugins": (), "sources": {}, "stages": {}, **source.run}
    run |= {"model": to_dict(codi.config), "generate": to_dict(config)}
    tree = {"run": run, **({"started_from": source.started_from} if source.started_from else {})}
    leaves = jax.tree.leaves(variables["params"])
    stored = dtype or " and ".join(sorted({str(leaf.dtype) for leaf in leaves}))
    entries: dict[str, Any] = {**_card(source, sum(leaf.size for leaf in leaves), license), "dtype": stored}
    rows = card.numbers(entries["numbers"])
    text = card.render(
        title or folder.absolute().name,
        tuple(codi.modalities),
        where=f"{hub.SCHEME}{title}" if title else folder.absolute().name,
        license=entries["licence"],
        rows=rows,
        plugins=tuple(run["plugins"]),
        body=_body(source, stored) or f"{entries['parameters']:,} parameters, {_STORED}{stored}.\n\n{card.table(rows)}",
    )
    constants = {**codi.default_constants(), **variables.get("constants", {})}
    tokenizers = _save_tokenizers(run["model"], folder) if distributed.is_primary() else ()
    packaged.write(folder, {"model": {**variables, "constants": constants}}, tree, dtype, max_shard_size, tokenizers)

    def write() -> None:
        storage.write_text(folder / packaged.CARD, json.dumps(entries, indent=1) + "\n")
        storage.write_text(folder / card.NAME, text)

    distributed.run_on_primary(write, f"write to {folder}")


def _save_tokenizers(model: dict[str, Any], folder: Path) -> list[str]:
    """Copies tokenizers that are folders, and names the copies in the config of the model.

    Returns:
      The names of the files.
    """
    out: list[str] = []
    for modality in model["modalities"].values():
        for i, name in enumerate(names := list(modality.get("tokenizers", ()))):
            where = f"tokenizers/{i}"
            kind, files = save_tokenizer(name, folder / where)
            names[i] = f"{kind}{INSIDE}{where}" if files else name
            out += [f"{where}/{file}" for file in files]
        if names:
            modality["tokenizers"] = names
    return out


def _card(source: ModelSource, parameters: int, license: str | None) -> dict[str, Any]:
    """The contents of card.json, without "dtype"."""
    old = _read(source, packaged.CARD)
    metrics = _read(source, "metrics.json")
    measured = card.as_results(card.numbers(metrics)) if metrics else old.get("numbers", {})
    return {
        "version": __version__,
        **old,
        "parameters": parameters,
        "licence": str(old.get("licence", "")) if license is None else license,
        "numbers": measured if source.measured and isinstance(measured, dict) else {},
    }


def _body(source: ModelSource, stored: str) -> str:
    """The text of the card of the package from which the model was loaded, if it still is true; else ""."""
    if not source.measured or source.folder is None or not packaged.is_package(source.folder):
        return ""
    path = source.folder / card.NAME
    text = path.read_bytes()[:_MOST_TEXT].decode(errors="replace") if path.exists() else ""
    return re.sub(rf"{_STORED}\w+", f"{_STORED}{stored}", card.body_of(text), count=1)


def _read(source: ModelSource, name: str) -> dict[str, Any]:
    """A JSON file of the model's folder; {} if there is none.

    Raises:
      ConfigError: it is damaged.
    """
    if source.folder is None or not (path := source.folder / name).exists():
        return {}
    try:
        if isinstance(tree := read_json(path), dict):
            return tree
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from None
    raise ConfigError(f"{path}: is damaged")


def push(
    repository: hub.Repository,
    save_to: Callable[[Path], None],
    *,
    private: bool | None,
    token: str | None,
    commit_message: str,
    create_pr: bool,
) -> str:
    """Uploads what `save_to` writes to a temporary folder; see `Pipeline.push_to_hub`.

    Returns:
      The address of the commit or pull request.
    """
    with tempfile.TemporaryDirectory(prefix="codi-jax-") as temporary:
        save_to(Path(temporary))
        return hub.push(
            Path(temporary),
            repository,
            private=private,
            token=token,
            commit_message=commit_message,
            create_pr=create_pr,
            stale=["model*.safetensors", f"model.safetensors{shards.INDEX}", packaged.CARD, "tokenizers/*"],
        )
