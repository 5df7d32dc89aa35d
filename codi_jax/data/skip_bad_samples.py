"""Replaces samples that cannot be decoded, counts them by reason, logs them, and fails if there are too many.

A bad sample i of n is replaced by the first usable one of i + s, i + 2s, … (mod n). The seeded stride s is coprime to
n, so the sequence visits every sample. The replacement depends on the data alone: batches are the same on any number of
hosts and after any interruption.

A run ends when more of its n samples are bad than the K = ⌊n · max_bad_fraction⌋ that may be. Of t distinct samples
that were tried, b are bad; if K of all n were, b or more would be found with probability

    P = Σ_{x ≥ b} C(K, x) C(n − K, t − x) / C(n, t)

and the run ends when P < 10⁻⁶. That holds for data of any size: P = 0 as soon as b > K.

Bad samples are logged as one JSON object per line, in one file per process. A restarted run reads all of these files,
skips the samples that they list, and goes on counting from the samples that they say were tried.
"""

import dataclasses
import json
import math
import os
import threading
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from codi_jax.config import NO_EFFECT, ConfigError, config_class
from codi_jax.media.files import MediaError
from codi_jax.rng import check_seed

_SURE = 1e-6  # the probability at which the number of bad samples is no longer chance


@config_class()
class FaultsConfig:
    """How samples that cannot be decoded are handled.

    Attributes:
      max_bad_fraction: a run ends as soon as it is certain that a larger fraction of the samples is bad.
      log: path of the log of bad samples; empty for none. Process k writes to LOG.k.
      seed: seed of the stride that chooses replacements.
    """

    max_bad_fraction: float = dataclasses.field(default=0.01, metadata=NO_EFFECT)
    log: str = dataclasses.field(default="", metadata=NO_EFFECT)
    seed: int = 0

    def __post_init__(self):
        check_seed(self.seed, "faults.seed")


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
        self._tried = np.zeros(len(source), bool)  # in this run
        self._before: dict[Path, int] = {}  # number tried in earlier runs, by log
        self._bad: dict[int, str] = {}
        self._stride = _stride(len(source), config.seed)
        self._process = process
        self.log: Path | None = None  # of this process
        if config.log:
            self.log_to(Path(os.path.expanduser(config.log)))

    def log_to(self, path: Path) -> None:
        """Reads the logs PATH.k of earlier runs, and logs to that of this process, unless there is a log already."""
        if self.log is None:
            self.log = path.with_name(f"{path.name}.{self._process}")
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

    @property
    def bad(self) -> int:
        """The number of bad samples that this process has met, and those that were logged before."""
        return len(self._bad)

    def counts(self) -> str:
        """The number of bad samples for each reason, as text."""
        counts = Counter(self._bad.values())
        return ", ".join(f"{reason} {n}" for reason, n in counts.most_common()) or "no bad samples"

    def _record(self, index: int, error: MediaError) -> None:
        with self._lock:
            if index in self._bad:
                return
            self._bad[index], self._tried[index] = error.reason, True
            tried = int(self._tried.sum())
            if self.log is not None:
                own = tried + self._before.get(self.log, 0)
                entry = {"index": index, "reason": error.reason, "said": str(error), "tried": own}
                self.log.parent.mkdir(parents=True, exist_ok=True)
                with self.log.open("a", encoding="utf-8") as log:
                    log.write(json.dumps(entry) + "\n")
            bad, tried = len(self._bad), min(tried + sum(self._before.values()), len(self))
            if _chance(len(self), int(len(self) * self._config.max_bad_fraction), tried, bad) < _SURE:
                raise ConfigError(
                    f"data: {bad} of {tried} samples cannot be used ({self.counts()}), more than max_bad_fraction="
                    f"{self._config.max_bad_fraction:g}; the last: {error}"
                )

    def _replay(self, path: Path) -> None:
        text = path.read_text(encoding="utf-8")
        if not text.endswith("\n"):  # a killed process left the last line incomplete
            text = text[: text.rfind("\n") + 1]
            if path == self.log:
                path.write_text(text, encoding="utf-8")
        for number, line in enumerate(text.splitlines(), 1):
            try:
                entry = json.loads(line)
                index, reason, tried = int(entry["index"]), str(entry["reason"]), int(entry["tried"])
                if not 0 <= index < len(self) or tried < 1:
                    raise ValueError
            except (ValueError, KeyError, TypeError):
                raise ConfigError(f"{path}, line {number}: not a log entry of this source; delete the log") from None
            self._bad[index] = reason
            self._before[path] = max(tried, self._before.get(path, 0))


def skipping(source: Any, name: str) -> dict[str, SkipBadSamples]:
    """A source that replaces bad samples, or those of the parts of a mixture, by name and by NAME.PART."""
    if isinstance(source, SkipBadSamples):
        return {name: source}
    parts = getattr(source, "parts", {})
    return {k: found for part, inner in parts.items() for k, found in skipping(inner, f"{name}.{part}").items()}


def _chance(total: int, allowed: int, tried: int, bad: int) -> float:
    """The probability P of the module, or 1 if at most as many are bad as are expected."""
    if bad * total <= allowed * tried:
        return 1.0
    most = min(allowed, tried)
    if bad > most:
        return 0.0

    def log_choose(n: int, k: int) -> float:
        return math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1)

    least = tried - (total - allowed)  # as many are bad if all good samples were tried
    if bad <= least:
        return 1.0
    term = math.exp(log_choose(allowed, bad) + log_choose(total - allowed, tried - bad) - log_choose(total, tried))
    chance = 0.0
    for x in range(bad, most + 1):  # beyond the expectation the terms fall
        chance += term
        term *= (allowed - x) * (tried - x) / ((x + 1) * (x + 1 - least))
        if term < 1e-9 * chance:
            break
    return chance


def _stride(length: int, seed: int) -> int:
    """A random number coprime to `length`."""
    rng = np.random.default_rng([seed, length])
    while math.gcd(stride := int(rng.integers(1, max(length, 2))), length) != 1:
        pass
    return stride
