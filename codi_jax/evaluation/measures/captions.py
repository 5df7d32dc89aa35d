"""Scores of captions against the references of the same keys: BLEU, ROUGE-L, CIDEr-D, and METEOR and SPICE.

A line of a reference's file is one reference. Scores are of the tokens of `metrics.captions.tokenize`.
"""

from collections.abc import Callable, Iterator

import numpy as np

from codi_jax.config import ConfigError
from codi_jax.evaluation.measures.base import Case, Measure, Result, bounds, resamples
from codi_jax.evaluation.study import Study
from codi_jax.metrics.bootstrap import bootstrap
from codi_jax.metrics.captions import Captions, CiderD, bleu, collected, rouge, tokenize
from codi_jax.metrics.captions.java import Meteor, Spice

Scores = Callable[[Captions], np.ndarray]  # of every sample, [n]


def _cases(study: Study) -> Iterator[Case]:
    if study.both("text") and study.matched("text"):
        yield Case(("text",))


def _captions(study: Study) -> Captions:
    assert study.real is not None
    hypotheses = [tokenize(study.samples.caption(key)) for key in study.samples.keys]
    return Captions(hypotheses, [[tokenize(c) for c in study.real.captions(key)] for key in study.samples.keys])


def _result(study: Study, captions: Captions, numbers: dict[str, float], per_sample: np.ndarray | None) -> Result:
    n, m = len(captions.hypotheses), sum(map(len, captions.references))
    intervals = {}
    if per_sample is not None and (count := resamples(study.settings, float(n))):
        name = next(iter(numbers))
        found = bootstrap(
            lambda rows: {name: float(per_sample[rows].mean())}, n, resamples=count, seed=study.settings.seed
        )
        intervals[name] = bounds(found[name])
    return Result(numbers, n, m, intervals)


def _bleu(study: Study, case: Case) -> Result:
    captions = _captions(study)
    rows = bleu.statistics(captions)

    def statistic(chosen: np.ndarray) -> dict[str, float]:
        return {f"bleu_{k}": float(x) for k, x in reversed(list(enumerate(bleu.scores(rows[chosen].sum(0)), 1)))}

    found = _result(study, captions, statistic(np.arange(len(rows))), None)
    if not (count := resamples(study.settings, float(rows.size))):
        return found
    drawn = bootstrap(statistic, len(rows), resamples=count, seed=study.settings.seed)
    intervals = {name: bounds(x) for name, x in drawn.items()}
    return Result(found.numbers, found.n, found.n_reference, intervals)


def _mean(name: str, scores: Scores) -> Callable[[Study, Case], Result]:
    def measure(study: Study, case: Case) -> Result:
        captions = _captions(study)
        each = scores(captions)
        return _result(study, captions, {name: float(each.mean())}, each)

    return measure


def _meteor(study: Study, case: Case) -> Result:
    captions = _captions(study)
    total, _ = Meteor().scores(collected.collect(captions))
    return _result(study, captions, {"meteor": total}, None)


def _with(program: Callable[[], object]) -> Callable[[Study], Iterator[Case]]:
    """Cases if a program is installed."""

    def cases(study: Study) -> Iterator[Case]:
        for case in _cases(study):
            try:
                program()
            except ConfigError:
                return
            yield case

    return cases


_NEEDS = "text in --samples, and in --real for the same keys"
_JAVA = f"{_NEEDS}, and the package pycocoevalcap and java"
MEASURES = {
    "bleu": Measure(_NEEDS, _cases, _bleu),
    "rouge": Measure(_NEEDS, _cases, _mean("rouge_l", rouge.scores)),
    "cider": Measure(_NEEDS, _cases, _mean("cider_d", lambda c: CiderD().scores(collected.collect(c)))),
    "meteor": Measure(_JAVA, _with(Meteor), _meteor),
    "spice": Measure(
        f"{_JAVA}, with its CoreNLP files",
        _with(Spice),
        _mean("spice", lambda c: Spice().scores(collected.collect(c))[1]),
    ),
}
