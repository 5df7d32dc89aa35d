"""What holds for all caption scores: batches and processes, order, equal captions, bad input."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from codi_jax.metrics.base import compute
from codi_jax.metrics.captions import Bleu, Captions, CiderD, RougeL
from codi_jax.metrics.captions.collected import samples_of

METRICS = [Bleu(), RougeL(), CiderD()]
captions = st.lists(st.sampled_from(["a", "b", "cat", "é", "🐈"]), max_size=7).map(" ".join)
corpora = st.lists(st.tuples(captions, st.lists(captions, min_size=1, max_size=3)), min_size=1, max_size=6).map(
    lambda rows: Captions(*map(list, zip(*rows, strict=True)))
)
each_metric = pytest.mark.parametrize("metric", METRICS, ids=lambda metric: type(metric).__name__)


def rows(samples, index):
    return Captions(*([column[i] for i in index] for column in samples))


@each_metric
@given(samples=corpora, cut=st.integers(0, 6))
def test_merged_is_whole(metric, samples, cut):
    n = len(samples.hypotheses)
    whole = compute(metric, [samples])
    parts = [rows(samples, range(a, b)) for a, b in pairwise([0, min(cut, n), n])]
    states = [metric.update(metric.init(), part) for part in parts]
    assert metric.compute(metric.merge(*states)) == pytest.approx(whole, rel=0 if metric != RougeL() else 1e-12, abs=0)
    assert compute(metric, parts) == pytest.approx(whole, rel=1e-12)
    assert whole["n"] == n


@each_metric
@given(samples=corpora, data=st.data())
def test_the_order_of_samples_and_references_does_not_matter(metric, samples, data):
    order = data.draw(st.permutations(range(len(samples.hypotheses))))
    moved = rows(samples, order)
    moved = Captions(moved.hypotheses, [list(reversed(r)) for r in moved.references])
    assert compute(metric, [moved]) == pytest.approx(compute(metric, [samples]), rel=1e-9, abs=1e-12)


@given(st.lists(captions, min_size=1, max_size=5))
def test_equal_captions_have_the_largest_score(hypotheses):
    samples = Captions(hypotheses, [[h] for h in hypotheses])
    bleu, rouge = compute(Bleu(1), [samples]), compute(RougeL(), [samples])
    assert rouge["rouge_l"] == pytest.approx(1)
    assert bleu["bleu_1"] == pytest.approx(1 if any(hypotheses) else 0, abs=1e-6)
    own = [f"{h} w{i} x{i} y{i} z{i}" for i, h in enumerate([*hypotheses, ""])]  # a 4-gram that is theirs alone
    longer = Captions(own, [[h] for h in own])
    assert compute(CiderD(), [longer])["cider_d"] == pytest.approx(10)
    assert compute(Bleu(), [longer])["bleu_4"] == pytest.approx(1)


@given(corpora)
def test_collected_captions_are_those_that_were_given(samples):
    metric = CiderD()
    state = metric.update(metric.init(), samples)
    assert state.text.dtype == np.uint8
    found = samples_of(state)
    assert [" ".join(s.hypothesis) for s in found] == samples.hypotheses
    assert [[" ".join(r) for r in s.references] for s in found] == samples.references


@each_metric
@pytest.mark.parametrize(
    ("batch", "message"),
    [
        (("a cat", [["a"]]), "hypotheses: expected a list of strings, one for each sample, got 'a cat'"),
        ((["a", 3], [["a"], ["b"]]), r"hypotheses: expected a list of strings.*got \['a', 3\]"),
        ((["a", "b"], [["a"]]), "expected references of 2 hypotheses, got those of 1"),
        ((["a", "b"], [["a"], "b"]), "references of sample 1: expected a list of at least one string, got 'b'"),
        ((["a"], [[]]), r"references of sample 0: expected a list of at least one string, got \[\]"),
        ((["a"], "a"), "references: expected a list of captions for each sample, got 'a'"),
    ],
)
def test_bad_input_has_one_line(metric, batch, message):
    with pytest.raises(ValueError, match=f"^{message}$"):
        compute(metric, [batch])


@each_metric
def test_there_must_be_captions(metric):
    with pytest.raises(ValueError, match=r"^no captions to score$"):
        compute(metric, [])
