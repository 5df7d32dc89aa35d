"""The playground without its page: what a client asks for becomes jobs, results and a history."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from codi_jax.config import ConfigError
from codi_jax.serve.gate import UploadFolder
from codi_jax.serve.queue import FairQueue, Job, QueueLimits
from codi_jax.serve.request import PlaygroundRequest
from codi_jax.serve.results import PlaygroundResult, ResultLimits, ResultStore
from codi_jax.serve.setting import Limits, Setting, Use, check, from_query
from codi_jax.serve.uploads import Bounds, Uploads
from codi_jax.serve.widgets import InControl
from codi_jax.serve.work import PlaygroundModel, generate

UPLOADS_MB = 1000.0  # files of all clients on disk
_WARM_STEPS = 2


@dataclasses.dataclass(frozen=True)
class PlaygroundLimits:
    """All bounds: of a request, of the queue, of what is kept."""

    request: Limits = dataclasses.field(default_factory=Limits)
    queue: QueueLimits = dataclasses.field(default_factory=QueueLimits)
    results: ResultLimits = dataclasses.field(default_factory=ResultLimits)


class Playground:
    """A model that many people use at once.

    Args:
      pipe: its pipeline.
      title: a line that names it.
      limits: see `PlaygroundLimits`, the defaults of which apply if None.
      start: whether the workers start at once, see `FairQueue`.
    """

    def __init__(
        self, pipe: PlaygroundModel, title: str = "", limits: PlaygroundLimits | None = None, start: bool = True
    ):
        limits = limits or PlaygroundLimits()
        self.pipe, self.title, self.limits, self.codi = pipe, title, limits, pipe.codi
        bounds = limits.request
        self._uploads = Uploads(
            pipe.codi, Bounds(int(bounds.megabytes * 1e6), int(bounds.megapixels * 1e6), bounds.seconds)
        )
        self.folder = UploadFolder(UPLOADS_MB, limits.results.minutes)
        self.decoding, self.computing = FairQueue(limits.queue, start=start), FairQueue(limits.queue, start=start)
        self.results = ResultStore(limits.results)

    @property
    def modalities(self) -> tuple[str, ...]:
        """Names of the modalities."""
        return tuple(self.codi.modalities)

    def read(self, client: str, setting: Setting, files: Mapping[str, InControl]) -> Job:
        """Begins to read what a client gives.

        Args:
          client: whose it is.
          setting: what is asked for.
          files: modality -> its file, of the modalities in `setting.files()`.

        Returns:
          A job whose result is a `PlaygroundRequest`.

        Raises:
          ConfigError: the setting is out of bounds, a file is missing, or the queue is full.
        """
        check(setting, self.modalities, self.limits.request)
        if missing := [name for name in setting.files() if name not in files]:
            raise ConfigError(f"{', '.join(missing)}: give a file (links hold none), or do not use it")

        def work(job: Job) -> PlaygroundRequest:
            values, painted = {}, {}
            for name, use in setting.given.items():
                job.report(f"reading {name}")
                if use.text is not None:
                    values[name] = self.codi[name].raw_from_user(use.text)
                    continue
                values[name], mask = self._read_file(name, use, files[name])
                if mask is not None:
                    painted[name] = mask
            request = PlaygroundRequest(setting, values, painted)
            request.arguments(self.codi)  # refuses now what the pipeline would
            return request

        return self.decoding.submit(client, work)

    def _read_file(self, name: str, use: Use, given: InControl) -> tuple[Any, Any]:
        """The raw value of a file, and what is painted over it, if that counts."""
        assert given.file is not None
        paint = [self._uploads.read_painted(name, layer) for layer in given.paint if layer is not None]
        mask = None
        for layer in paint:
            mask = layer if mask is None else mask | layer
        if given.drawn and (mask is None or not mask.any()):
            raise ConfigError(f"{name}: nothing is drawn")
        value = self._uploads.read(name, given.file)
        partial = use.role in ("part", "change") and not given.drawn
        return value, mask if partial and mask is not None and mask.any() else None

    def compute(self, client: str, request: PlaygroundRequest) -> Job:
        """Begins to generate.

        Returns:
          A job whose result is a `PlaygroundResult`, which is kept in `results`.

        Raises:
          ConfigError: the queue is full.
        """

        def work(job: Job) -> PlaygroundResult:
            result = generate(self.pipe, request, job, {"model": self.title})
            self.results.put(result)
            return result

        return self.computing.submit(client, work, request.cost())

    def warm_up(self) -> Job:
        """Begins to compile what the first requests need: all outputs of one sample, without prompts and with all."""
        options = {"to": self.modalities, "steps": _WARM_STEPS}

        def work(job: Job) -> None:
            out = self.pipe(**options, progress=job.report)
            prompts = {name: out[name][0] for name in out}
            said = {name: value for name, value in prompts.items() if not isinstance(value, str) or value.strip()}
            self.pipe(said, **options, progress=job.report)

        return self.computing.submit("", work, cost=0.0, watched=False)

    def cancel(self, client: str, token: str) -> bool:
        """Ends a job of a client; returns whether there was one."""
        for queue in (self.decoding, self.computing):
            job = queue.find(token)
            if job is not None and job.client == client:
                queue.cancel(job)
                return True
        return False

    def linked(self, query: str) -> Setting | None:
        """The setting of the query of a link; None if it names none.

        Raises:
          ConfigError: another form, or a setting that is out of bounds.
        """
        setting = from_query(query)
        if setting == Setting():
            return None
        check(setting, self.modalities, self.limits.request)
        return setting

    def result(self, client: str, token: str) -> PlaygroundResult:
        """A result of a client.

        Raises:
          ConfigError: there is none, or no more, or it is another's.
        """
        found = self.results.get(token)
        if found is None or found.client != client:
            raise ConfigError("this result is not kept any more; generate it again")
        return found

    def give(self, client: str, token: str, name: str) -> tuple[str, str]:
        """A file of a result, to be given again.

        Args:
          client: whose result it is.
          token: of the result.
          name: of the file.

        Returns:
          Its modality and, of a text, the text; of another, the path of a copy in the folder of uploads.

        Raises:
          ConfigError: there is no such result or file.
        """
        files = self.result(client, token).files
        modality = name.removeprefix("given_").partition(".")[0].partition("_")[0]
        if name not in files or modality not in self.modalities:
            raise ConfigError("this result has no such file")
        if Path(name).suffix == ".txt":
            return modality, files[name].decode().strip()
        return modality, self.folder.write(name, files[name])

    def close(self) -> None:
        """Ends the workers and the decoder, and deletes the files of clients."""
        for queue in (self.decoding, self.computing):
            queue.close()
        self._uploads.close()
        self.folder.close()
