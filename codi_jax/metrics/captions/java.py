"""METEOR and SPICE by the Java programs of pycocoevalcap, where that package and `java` are installed.

METEOR (Denkowski and Lavie 2014) aligns the words of a hypothesis and a reference, also by stems, synonyms and
paraphrases; SPICE (Anderson et al. 2016) compares graphs of objects, attributes and relations. Both are in [0, 1].
Their language resources exist for these programs alone, so that they are called, not written again. METEOR of the
corpus is computed from the sums of the counts of its samples, SPICE is the mean over samples.

SPICE also needs two files of Stanford CoreNLP 3.6.0, which its constructor in pycocoevalcap would download
without asking; here they must be there. It writes into the folder of pycocoevalcap.

The state is the captions (`captions.collected`).
"""

import dataclasses
import importlib
import importlib.util
import shutil
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from codi_jax.config import ConfigError, first_line
from codi_jax.metrics.captions import collected
from codi_jax.metrics.captions.collected import CaptionBytes, CollectingMetric
from codi_jax.metrics.captions.samples import Tokens

CORENLP = ("stanford-corenlp-3.6.0.jar", "stanford-corenlp-3.6.0-models.jar")
_SEPARATOR = "|||"  # between captions in the protocol of METEOR

Scores = tuple[float, np.ndarray]  # of the corpus, and of every sample, float64 [n]
Numbered = Mapping[int, list[str]]  # captions of the samples, as pycocoevalcap takes them


def _require(name: str) -> Path:
    """The folder of pycocoevalcap.

    Raises:
      ConfigError: it or java is missing.
    """
    found = importlib.util.find_spec("pycocoevalcap")
    missing = [] if found else ["the package pycocoevalcap (pip install pycocoevalcap)"]
    missing += [] if shutil.which("java") else ["the program java on PATH"]
    if missing or found is None:
        needed = "is not there" if len(missing) == 1 else "are not there"
        raise ConfigError(f"{name} needs pycocoevalcap and java: {' and '.join(missing)} {needed}")
    return Path(next(iter(found.submodule_search_locations or ())))


def _numbered(state: CaptionBytes) -> tuple[Numbered, Numbered]:
    """References and hypotheses by the number of their sample."""

    def join(tokens: Tokens) -> str:
        return " ".join(token for token in tokens if token != _SEPARATOR)

    samples = collected.samples_of(state)
    references = {i: [join(r) for r in sample.references] for i, sample in enumerate(samples)}
    return references, {i: [join(sample.hypothesis)] for i, sample in enumerate(samples)}


def _meteor(references: Numbered, hypotheses: Numbered) -> Scores:
    program = importlib.import_module("pycocoevalcap.meteor.meteor").Meteor()
    try:
        total, each = program.compute_score(references, hypotheses)
    finally:
        process = program.meteor_p
        if program.lock.locked():  # it is if the program failed, and the destructor would wait for it forever
            program.lock.release()
        process.kill()
        process.communicate()
    return float(total), np.asarray(each, np.float64)


def _spice(references: Numbered, hypotheses: Numbered) -> Scores:
    program = importlib.import_module("pycocoevalcap.spice.spice").Spice()
    total, each = program.compute_score(references, hypotheses)
    return float(total), np.array([categories["All"]["f"] for categories in each], np.float64)


@dataclasses.dataclass(frozen=True)
class Meteor(CollectingMetric):
    """Metric {"meteor", "n"} of batches of `Captions`."""

    def __post_init__(self):
        _require("METEOR")

    def compute(self, state: CaptionBytes) -> dict[str, float]:
        total, each = self.scores(state)
        return {"meteor": total, "n": float(len(each))}

    def scores(self, state: CaptionBytes) -> Scores:
        """METEOR of the corpus and of every sample [n].

        Raises:
          ConfigError: the program failed.
        """
        return _called("METEOR", _meteor, state)


@dataclasses.dataclass(frozen=True)
class Spice(CollectingMetric):
    """Metric {"spice", "n"} of batches of `Captions`."""

    def __post_init__(self):
        folder = _require("SPICE") / "spice" / "lib"
        if missing := [name for name in CORENLP if not (folder / name).is_file()]:
            how = "python -m pycocoevalcap.spice.get_stanford_models downloads them"
            raise ConfigError(f"SPICE needs {' and '.join(missing)} in {folder}; {how}")

    def compute(self, state: CaptionBytes) -> dict[str, float]:
        total, each = self.scores(state)
        return {"spice": total, "n": float(len(each))}

    def scores(self, state: CaptionBytes) -> Scores:
        """SPICE of the corpus and of every sample [n].

        Raises:
          ConfigError: the program failed.
        """
        return _called("SPICE", _spice, state)


def _called(name: str, program: Callable[[Numbered, Numbered], Scores], state: CaptionBytes) -> Scores:
    """The scores by a program, whose failures get one line."""
    numbered = _numbered(state)
    try:
        return program(*numbered)
    except (OSError, ValueError, KeyError, subprocess.SubprocessError) as error:
        raise ConfigError(f"{name}: the program of pycocoevalcap failed: {first_line(error)}") from error
