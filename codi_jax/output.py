"""What a pipeline returns: the generated values of every output, which show themselves in a notebook."""

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from codi_jax import storage
from codi_jax.codi import CoDi
from codi_jax.config import ConfigError
from codi_jax.report.markup import Html, el
from codi_jax.sampling.files import save
from codi_jax.types import Array

_STYLE = Html(
    ".codi-jax img{width:8em;image-rendering:pixelated}.codi-jax audio{width:8em}"
    ".codi-jax td,.codi-jax th{text-align:left;vertical-align:top}"
)


class Output(Mapping[str, list[Any]]):
    """Generated values by output: `out.image[0]` or `out["image"][0]`; iterating gives the names of the outputs.

    Images are images of Pillow, texts strings, audio `Audio(samples, rate)` and videos arrays uint8 [T, H, W, 3]: what
    `Modality.user_from_raw` of each modality makes. They are made when they are first asked for; `save` writes what
    was generated, also if they have been changed since.

    Attributes:
      latents: normalised latents by output, [samples, *latent_shape].
    """

    def __init__(self, codi: CoDi, values: Mapping[str, Sequence[Any]], latents: Mapping[str, Array]):
        """
        Args:
          codi: the model.
          values: output -> raw values; empty if the latents have not been decoded.
          latents: by output.
        """
        self.latents = dict(latents)
        self._codi, self._raw = codi, {name: list(items) for name, items in values.items()}
        self._converted: dict[str, list[Any]] = {}

    def __getitem__(self, name: str) -> list[Any]:
        if name not in self._raw:
            raise KeyError(name)
        if name not in self._converted:
            self._converted[name] = [self._codi[name].user_from_raw(value) for value in self._raw[name]]
        return self._converted[name]

    def __getattr__(self, name: str) -> list[Any]:
        if not name.startswith("_"):
            if name in self._raw:
                return self[name]
            if name in self.latents:
                raise AttributeError(f"{name} has not been decoded; see `latents`, and `Pipeline.decode`")
            raise AttributeError(f"{name!r} is not an output; there are {', '.join(self._raw) or 'none'}")
        raise AttributeError(name)

    def __dir__(self) -> list[str]:
        return sorted({*super().__dir__(), *self._raw})

    def __iter__(self) -> Iterator[str]:
        return iter(self._raw)

    def __len__(self) -> int:
        return len(self._raw)

    def save(self, folder: str | os.PathLike) -> list[Path]:
        """Writes all values as files, `image_0.png` and so on, as `codi-jax generate` does.

        Args:
          folder: a local path (`~` is expanded) or one in an object store; created if missing.

        Returns:
          The paths of the files.

        Raises:
          ConfigError: there are no values, the path is a file, or the folder may not be written.
        """
        if not self._raw:
            raise ConfigError("there is nothing to save: these latents have not been decoded; see `Pipeline.decode`")
        return save(self._codi, self._raw, storage.check_output(folder))

    def write(self, name: str, i: int, path: str | os.PathLike) -> None:
        """Writes sample i of an output to a file, atomically.

        Raises:
          KeyError: no such output.
        """
        with storage.atomic_write(storage.as_path(path)) as temporary:
            self._codi[name].write(self._raw[name][i], temporary)

    def html(self, name: str, i: int) -> str:
        """Sample i of an output as a self-contained HTML element.

        Raises:
          KeyError: no such output.
        """
        return self._codi[name].html(self._raw[name][i])

    def preview(self, name: str) -> str | np.ndarray:
        """All samples of an output in one text, or uint8 pixels [H, W, 3]; see `Modality.preview`.

        Raises:
          KeyError: no such output.
        """
        return self._codi[name].preview(self._raw[name])

    def __repr__(self) -> str:
        counts = [f"{name}: {len(items)}" for name, items in self._raw.items()]
        undecoded = [f"{name}: {len(z)} latents" for name, z in self.latents.items() if name not in self._raw]
        return f"Output({', '.join(counts + undecoded)})"

    def _repr_html_(self) -> str:
        """A table with a row for every output and a column for every sample."""
        rows = [
            el("tr", el("th", name), [el("td", Html(self._codi[name].html(value))) for value in items])
            for name, items in self._raw.items()
        ]
        return el("div", el("style", _STYLE), el("table", rows), class_="codi-jax")
