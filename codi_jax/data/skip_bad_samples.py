"""Samples that cannot be used: replaced, counted by reason, written down, and too many of them the end.

In place of sample i of n stands the first usable one of i, i + s, i + 2s, … (mod n), with a seeded stride s that has no
divisor in common with n, so that these are a permutation of all. It depends on the data alone: batches are the same on
any number of hosts, and after any interruption.

What was refused is written to a log, one JSON object a line, a file a process. Whoever starts again reads all of them,
and tries none of these samples a second time.
"""

import dataclasses
import json
import math
import threading
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from codi_jax.config import ConfigError
from codi_jax.data.files import MediaError

_ENOUGH = 200  # samples that have to be tried before their share means anything; all, if there are fewer


@dataclasses.dataclass(frozen=True)
class FaultsConfig:
    """What is to be done about samples that cannot be used.

    Attributes:
      max_bad_fraction: of the samples that were tried; more end the run.
      log: file of what was refused; empty for none. Each process writes one of its own, LOG.0, LOG.1, …
      seed: of the replacements.
    """

    max_bad_fraction: float = 0.01
    log: str = ""
    seed: int = 0


class SkipBadSamples:
    """A source whose samples that raise MediaError are replaced; for several threads.

    Args:
      source: samples by index.
      config: see FaultsConfig.
      process: whose log is written.
    """

    def __init__(self, source: Any, config: FaultsConfig, process: int = 0):
        self.source, self._config, self._lock = source, config, threading.Lock()
        self.parallel = getattr(source, "parallel", False)
        self._tried = np.zeros(len(source), bool)
        self._refused: dict[int, str] = {}
        self._stride = _stride(len(source), config.seed)
        self._log: Path | None = None
        if config.log:
            path = Path(config.log)
            path.parent.mkdir(parents=True, exist_ok=True)
            self._log = path.with_name(f"{path.name}.{process}")
            for written in sorted(path.parent.glob(f"{path.name}.*")):
                self._replay(written)

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, index: int) -> Any:
        """Sample `index`, or the one that stands for it.

        Raises:
          ConfigError: too many cannot be used.
        """
        for turn in range(len(self)):
            i = (index + turn * self._stride) % len(self)
            if i in self._refused:
                continue
            try:
                sample = self.source[i]
            except MediaError as error:
                self._refuse(i, error)
            else:
                self._tried[i] = True
                return sample
        raise ConfigError(f"data: none of {len(self)} samples can be used ({self.counts()})")

    def counts(self) -> str:
        """How many were refused, by reason."""
        found = Counter(self._refused.values())
        return ", ".join(f"{reason} {n}" for reason, n in found.most_common()) or "none refused"

    def _refuse(self, index: int, error: MediaError) -> None:
        with self._lock:
            if index in self._refused:
                return
            self._refused[index], self._tried[index] = error.reason, True
            if self._log is not None:
                entry = {"index": index, "reason": error.reason, "said": str(error)}
                with self._log.open("a", encoding="utf-8") as log:
                    log.write(json.dumps(entry) + "\n")
            bad, tried = len(self._refused), int(self._tried.sum())
            if tried >= min(_ENOUGH, len(self)) and bad > self._config.max_bad_fraction * tried:
                raise ConfigError(
                    f"data: {bad} of {tried} samples cannot be used ({self.counts()}), more than max_bad_fraction="
                    f"{self._config.max_bad_fraction:g}; the last: {error}"
                )

    def _replay(self, path: Path) -> None:
        text = path.read_text(encoding="utf-8")
        if not text.endswith("\n"):  # the last line was torn by a kill
            text = text[: text.rfind("\n") + 1]
            if path == self._log:
                path.write_text(text, encoding="utf-8")
        for number, line in enumerate(text.splitlines(), 1):
            try:
                entry = json.loads(line)
                index, reason = int(entry["index"]), str(entry["reason"])
                if not 0 <= index < len(self):
                    raise ValueError
            except (ValueError, KeyError, TypeError):
                raise ConfigError(f"{path}, line {number}: not a refusal of this source; delete the log") from None
            self._refused[index], self._tried[index] = reason, True


def _stride(length: int, seed: int) -> int:
    """A number without a divisor in common with `length`."""
    rng = np.random.default_rng([seed, length])
    while math.gcd(stride := int(rng.integers(1, max(length, 2))), length) != 1:
        pass
    return stride
