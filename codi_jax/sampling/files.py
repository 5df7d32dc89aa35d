"""Raw values of a model as files."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from codi_jax import storage
from codi_jax.codi import CoDi


def save(codi: CoDi, values: Mapping[str, Sequence[Any]], directory: Path) -> list[Path]:
    """Writes raw values as files `<modality>_<i><suffix>` and returns their paths.

    Args:
      codi: the model.
      values: modality -> raw values.
      directory: path; created if missing.
    """
    directory.mkdir(parents=True, exist_ok=True)
    paths = []
    for name, items in values.items():
        for i, item in enumerate(items):
            paths.append(directory / f"{name}_{i}{codi[name].suffix}")
            with storage.atomic_write(paths[-1]) as fresh:
                codi[name].write(item, fresh)
    return paths
