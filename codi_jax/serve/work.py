"""What the worker does: calls the pipeline with a request, shows previews, and makes files of what comes out."""

import io
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from PIL import Image

from codi_jax.media.data_url import data_url
from codi_jax.report.markup import Html, el, join
from codi_jax.serve.queue import Job
from codi_jax.serve.request import PlaygroundRequest
from codi_jax.serve.results import PlaygroundResult

if TYPE_CHECKING:
    from codi_jax.output import Output

_SHARE = 0.2  # of the time that previews may take


class PlaygroundModel(Protocol):
    """What the playground calls of a `Pipeline`."""

    codi: Any
    config: Any

    def __call__(self, *args: Any, **options: Any) -> "Output": ...

    def decode(self, latents: Mapping[str, Any]) -> "Output": ...


def generate(
    pipe: PlaygroundModel,
    request: PlaygroundRequest,
    job: Job,
    about: Mapping[str, str],
    clock: Callable[[], float] = time.perf_counter,
) -> PlaygroundResult:
    """Generates, for a job of a queue.

    Args:
      pipe: the pipeline.
      request: what is asked for.
      job: its `preview` is set to HTML of what the outputs are becoming.
      about: what settings.json says beside the setting.
      clock: seconds.

    Raises:
      ConfigError: see `Pipeline.__call__`.
      Cancelled: the job was cancelled.
    """
    begun, codi = clock(), pipe.codi
    arguments = request.arguments(codi)
    previews = _Previews(pipe, job, clock)
    out = pipe(**arguments, progress=job.report, preview=previews)
    job.report("writing files")
    notes = [line for name, value in request.values.items() for line in codi[name].ignored([value])]
    return PlaygroundResult(
        token=job.token,
        client=job.client,
        setting=request.setting,
        files={**_files_of(out), **_given_files(codi, request)},
        shown={name: [out.html(name, i) for i in range(len(out[name]))] for name in out},
        notes=notes,
        seconds=clock() - begun,
        about=about,
    )


class _Previews:
    """A `PreviewFn` that decodes as often as it may."""

    def __init__(self, pipe: PlaygroundModel, job: Job, clock: Callable[[], float]):
        self._pipe, self._job, self._clock = pipe, job, clock
        self._next = 0.0

    def __call__(self, done: int, total: int, latents: dict[str, Any], /) -> None:
        begun = self._clock()
        if begun < self._next or done == total or not latents:
            return
        self._job.preview = preview_html(self._pipe, latents)
        took = self._clock() - begun
        self._next = begun + took / _SHARE


def preview_html(pipe: PlaygroundModel, latents: Mapping[str, Any]) -> Html:
    """What outputs are becoming, from their latents."""
    out = pipe.decode(latents)
    return join(el("section", el("h3", name), _picture(out.preview(name)), class_="preview") for name in out)


def _picture(shown: str | np.ndarray) -> Html:
    if isinstance(shown, str):
        lines = [line.removeprefix("- ") for line in shown.splitlines()]
        return el("ul", [el("li", line or "…") for line in lines])
    file = io.BytesIO()
    Image.fromarray(shown).save(file, "PNG")
    return Html(f'<img alt="" src="{data_url("image/png", file.getvalue())}">')


def _files_of(out: "Output") -> dict[str, bytes]:
    with tempfile.TemporaryDirectory(prefix="codi-jax-") as folder:
        return {path.name: Path(path).read_bytes() for path in out.save(folder)}


def _given_files(codi: Any, request: PlaygroundRequest) -> dict[str, bytes]:
    """The values that were given, as the model has read them: `given_image.png` and so on, without texts."""
    files: dict[str, bytes] = {}
    with tempfile.TemporaryDirectory(prefix="codi-jax-") as folder:
        for name, use in request.setting.given.items():
            if use.text is None:
                path = Path(folder) / f"given_{name}{codi[name].suffix}"
                codi[name].write(request.values[name], path)
                files[path.name] = path.read_bytes()
    return files
