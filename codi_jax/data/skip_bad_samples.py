"""Replaces samples that cannot be decoded, counts them by reason, logs them, and fails if there are too many.

A bad sample i of n is replaced by the first usable one of i + s, i + 2s, … (mod n). The seeded stride s is coprime to
n, so the sequence visits every sample. The replacement depends on the data alone: batches are the same on any number of
hosts and after any interruption.

Bad samples are logged as one JSON object per line, in one file per process. A restarted run reads all of these files
and skips the samples that they list.
"""

import json
import math
import threading
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from codi_jax.config import ConfigError, config_class
from codi_jax.media.files import MediaError

_MIN_TRIED = 200  # samples to try (at most all of them) before the bad fraction is checked


@config_class()
class FaultsConfig:
    """How samples that cannot be decoded are handled.

    Attributes:
      max_bad_fraction: a larger fraction of bad samples, of those tried so far, ends the run.
      log: path of the log of bad samples; empty for none. Process k writes to LOG.k.
      seed: seed of the stride that chooses replacements.
    """

    max_bad_fraction: float = 0.01
    log: str = ""
    seed: int = 0


class SkipBadSamples:
    """A source that replaces every sample of `source` that raises MediaError. Thread-safe.

    Args:
      source: samples by index.
      config: see FaultsConfig.
      process: index of this process, which names its log file.
    """

    def __init__(self, source: Any, config: FaultsConfig, process: int = 0):
        self.source, self._config, self._lock = source, config, threading.Lock()
        self.parallel = getattr(source, "parallel", False)
        self._tried = np.zeros(len(source), bool)
        self._bad: dict[int, str] = {}
        self._stride = _stride(len(source), config.seed)
        self._log: Path | None = None
        if config.log:
            path = Path(config.log)
            path.parent.mkdir(parents=True, exist_ok=True)
            self._log = path.with_name(f"{path.name}.{process}")
            for log in sorted(path.parent.glob(f"{path.name}.*")):
                self._replay(log)

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, index: int) -> Any:
        """Sample `index`, or its replacement.

        Raises:
          ConfigError: too many samples are bad.
        """
        for attempt in range(len(self)):
            i = (index + attempt * self._stride) % len(self)
            if i in self._bad:
                continue
            try:
                sample = self.source[i]
            except MediaError as error:
                self._record(i, error)
            else:
                self._tried[i] = True
                return sample
        raise ConfigError(f"data: none of the {len(self)} samples can be used ({self.counts()})")

    def counts(self) -> str:
        """The number of bad samples for each reason, as text."""
        counts = Counter(self._bad.values())
        return ", ".join(f"{reason} {n}" for reason, n in counts.most_common()) or "no bad samples"

    def _record(self, index: int, error: MediaError) -> None:
        with self._lock:
            if index in self._bad:
                return
            self._bad[index], self._tried[index] = error.reason, True
            if self._log is not None:
                entry = {"index": index, "reason": error.reason, "said": str(error)}
                with self._log.open("a", encoding="utf-8") as log:
                    log.write(json.dumps(entry) + "\n")
            bad, tried = len(self._bad), int(self._tried.sum())
            if tried >= min(_MIN_TRIED, len(self)) and bad > self._config.max_bad_fraction * tried:
                raise ConfigError(
                    f"data: {bad} of {tried} samples cannot be used ({self.counts()}), more than max_bad_fraction="
                    f"{self._config.max_bad_fraction:g}; the last: {error}"
                )

    def _replay(self, path: Path) -> None:
        text = path.read_text(encoding="utf-8")
        if not text.endswith("\n"):  # a killed process left the last line incomplete
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
                raise ConfigError(f"{path}, line {number}: not a log entry of this source; delete the log") from None
            self._bad[index], self._tried[index] = reason, True


def _stride(length: int, seed: int) -> int:
    """A random number coprime to `length`."""
    rng = np.random.default_rng([seed, length])
    while math.gcd(stride := int(rng.integers(1, max(length, 2))), length) != 1:
        pass
    return stride
