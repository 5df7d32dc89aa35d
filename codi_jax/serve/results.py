"""Results, kept in memory for a while: a bound of bytes for all, a number for each client, and a time."""

import collections
import dataclasses
import io
import threading
import time
import zipfile
from collections.abc import Callable, Mapping, Sequence

from codi_jax.config import config_class
from codi_jax.serve.setting import Setting, to_json


@dataclasses.dataclass(frozen=True)
class PlaygroundResult:
    """What a request has made.

    Attributes:
      token: its name in links, which nobody can guess.
      client: whose it is.
      setting: it was made with.
      files: name -> contents, of outputs and of the files that were given.
      shown: output -> a self-contained HTML element for each sample.
      notes: lines about it for the client.
      seconds: that it took.
      about: what else settings.json says, such as the model.
    """

    token: str
    client: str
    setting: Setting
    files: Mapping[str, bytes]
    shown: Mapping[str, Sequence[str]]
    notes: Sequence[str] = ()
    seconds: float = 0.0
    about: Mapping[str, str] = dataclasses.field(default_factory=dict)

    @property
    def size(self) -> int:
        """Bytes that it takes."""
        return sum(map(len, self.files.values())) + sum(len(html) for items in self.shown.values() for html in items)

    def settings_json(self) -> str:
        """The setting, and beside it the model and the files."""
        return to_json(self.setting, **self.about, files=sorted(self.files), seconds=round(self.seconds, 2))

    def zip(self) -> bytes:
        """All files and settings.json in one."""
        file = io.BytesIO()
        with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as out:
            for name, data in (*self.files.items(), ("settings.json", self.settings_json().encode())):
                out.writestr(zipfile.ZipInfo(name), data)  # of one date, so that equal results are equal files
        return file.getvalue()


@config_class()
class ResultLimits:
    """Bounds of what is kept.

    Attributes:
      megabytes: of all results.
      of_a_client: results of one client.
      minutes: that a result is kept.
    """

    megabytes: float = 512.0
    of_a_client: int = 20
    minutes: float = 60.0


class ResultStore:
    """Results by token, the oldest dropped first.

    Args:
      limits: see `ResultLimits`.
      clock: seconds.
    """

    def __init__(self, limits: ResultLimits, clock: Callable[[], float] = time.monotonic):
        self._limits, self._clock = limits, clock
        self._kept: collections.OrderedDict[str, tuple[float, PlaygroundResult]] = collections.OrderedDict()
        self._bytes, self._lock = 0, threading.Lock()

    def put(self, result: PlaygroundResult) -> None:
        """Keeps a result; others are dropped for it, if need be. One that is too large by itself is not kept."""
        with self._lock:
            self._kept[result.token] = self._clock(), result
            self._bytes += result.size
            own = [token for token, (_, other) in self._kept.items() if other.client == result.client]
            for token in own[: -self._limits.of_a_client]:
                self._drop(token)
            while self._bytes > self._limits.megabytes * 1e6:
                self._drop(next(iter(self._kept)))
            self._drop_old()

    def get(self, token: str) -> PlaygroundResult | None:
        """The result of a token; None if there is none, or no more."""
        with self._lock:
            self._drop_old()
            found = self._kept.get(token)
            return None if found is None else found[1]

    def of_client(self, client: str) -> list[PlaygroundResult]:
        """The results of a client, the newest first."""
        with self._lock:
            self._drop_old()
            return [result for _, result in reversed(self._kept.values()) if result.client == client]

    @property
    def bytes(self) -> int:
        """Bytes that are kept."""
        return self._bytes

    def _drop(self, token: str) -> None:
        self._bytes -= self._kept.pop(token)[1].size

    def _drop_old(self) -> None:
        while self._kept:
            token, (since, _) = next(iter(self._kept.items()))
            if self._clock() - since <= self._limits.minutes * 60:
                return
            self._drop(token)
