"""What the configs say, whatever way they are written: a checksum of each, resolved and parsed.

`python -m tests.configs.resolved` records them. A checksum that changes is a change of what `codi-jax train` trains.
"""

import dataclasses
import hashlib
import importlib
import json
from pathlib import Path
from typing import Any

from codi_jax.config import from_dict
from codi_jax.sampling.config import GenerateConfig
from codi_jax.train.recipe import open_run

RECORD = Path(__file__).with_name("resolved.json")
ARGUMENTS = {
    "demo": ("", "tiny"),
    "digit_world": (
        "", "tiny", "judges", "length=3", "length=3,n=256,floors=package", "modalities=text+image",
        "modalities=text+image+audio,tiny", "loss=paper", "tokens=map", "pools=merged", "length=3,n=256,pools=merged",
        "loss=paper,length=2,tiny", "judges,tiny", "length=0.25",
    ),
    "codi": (
        "tokenizers=digit_world", "tokenizers=digit_world,compat=release", "tokenizers=digit_world,loss=paper",
        "tokenizers=digit_world,modalities=text+audio", "size=512,frames=16,dtype=float32",
        "modalities=image", "modalities=text+video,compat=release",
    ),
}  # fmt: skip


def canonical(tree: Any) -> Any:
    """A config as JSON types, without fields that have their defaults, so that a new field changes no checksum."""
    if dataclasses.is_dataclass(tree):
        fields = {f.name: (getattr(tree, f.name), f) for f in dataclasses.fields(tree) if f.init}
        return {name: canonical(value) for name, (value, field) in fields.items() if value != default_of(field)}
    if hasattr(tree, "items"):
        return {name: canonical(value) for name, value in tree.items()}
    return [canonical(value) for value in tree] if isinstance(tree, (list, tuple)) else tree


def default_of(field: dataclasses.Field) -> Any:
    made = field.default_factory is not dataclasses.MISSING
    return field.default_factory() if made else field.default


def resolved(get_config: Any, argument: str) -> str:
    """A checksum of the config of an argument."""
    run = open_run(get_config(argument), None)
    config = {
        "run": {**canonical(run.config), "model": {}, "generate": {}},
        "model": canonical(dataclasses.replace(run.codi.config, modalities={})),
        "modalities": {name: canonical(modality.config) for name, modality in run.codi.modalities.items()},
        "generate": canonical(from_dict(GenerateConfig, run.config.generate, "generate")),
    }
    return hashlib.sha256(json.dumps(config, sort_keys=True).encode()).hexdigest()[:16]


def main() -> None:
    """Records the checksums."""
    out = {
        f"{name}:{argument}": resolved(importlib.import_module(f"configs.{name}").get_config, argument)
        for name, arguments in ARGUMENTS.items()
        for argument in arguments
    }
    RECORD.write_text(json.dumps(out, indent=1) + "\n")


if __name__ == "__main__":
    main()
