"""Caption scores against pycocoevalcap's own, and tokens and METEOR against its Java programs where `java` is there.

It needs pycocoevalcap 1.2 (extra `parity`); without, the file is skipped.
"""

import contextlib
import io
import random
import shutil

import numpy as np
import pytest

from codi_jax.metrics.base import compute
from codi_jax.metrics.captions import Bleu, Captions, CiderD, RougeL, bleu, rouge, tokenize
from codi_jax.metrics.captions.java import Meteor
from tests.metrics.captions.test_tokenizer import CASES

pytest.importorskip("pycocoevalcap")

TEXT = "a the man dog rides on wave red ball two of in park cat sits with table plate"
WORDS = TEXT.split()
with_java = pytest.mark.skipif(not shutil.which("java"), reason="no java")


def corpus(n, seed):
    """n samples with few, repeated words; some hypotheses are empty, a single word, or one of the references."""
    draw = random.Random(seed)

    def caption(most):
        return " ".join(draw.choices(WORDS[: draw.randint(2, len(WORDS))], k=draw.randint(1, most)))

    hypotheses, references = [], []
    for _ in range(n):
        references.append([caption(14) for _ in range(draw.randint(1, 6))])
        kind = draw.random()
        hypotheses.append(
            "" if kind < 0.05 else draw.choice(WORDS) if kind < 0.1 else caption(16) if kind < 0.6
            else references[-1][0] if kind < 0.7 else " ".join(references[-1][0].split()[: draw.randint(1, 9)] * 2)
        )  # fmt: skip
    return Captions(hypotheses, references)


def theirs(module, name, samples):
    """The score of the corpus and of its samples by a class of pycocoevalcap."""
    scorer = getattr(pytest.importorskip(f"pycocoevalcap.{module}"), name)()
    references = dict(enumerate(samples.references))
    hypotheses = {i: [h] for i, h in enumerate(samples.hypotheses)}
    with contextlib.redirect_stdout(io.StringIO()):
        return scorer.compute_score(references, hypotheses)


@pytest.fixture(scope="module", params=[(400, 0), (300, 1), (2, 2), (1, 3)], ids=str)
def samples(request):
    return corpus(*request.param)


def test_bleu(samples):
    total, each = theirs("bleu.bleu", "Bleu", samples)
    numbers = compute(Bleu(), [samples])
    assert [numbers[f"bleu_{n}"] for n in range(1, 5)] == pytest.approx(total, abs=1e-6)
    np.testing.assert_allclose(bleu.scores(bleu.statistics(samples)).T, each, rtol=0, atol=1e-6)


def test_rouge(samples):
    total, each = theirs("rouge.rouge", "Rouge", samples)
    assert compute(RougeL(), [samples])["rouge_l"] == pytest.approx(total, abs=1e-6)
    np.testing.assert_allclose(rouge.scores(samples), each, rtol=0, atol=1e-6)


def test_cider(samples):
    total, each = theirs("cider.cider", "Cider", samples)
    metric = CiderD()
    state = metric.update(metric.init(), samples)
    assert metric.compute(state)["cider_d"] == pytest.approx(total, abs=1e-6)
    np.testing.assert_allclose(metric.scores(state), each, rtol=0, atol=1e-6)


def test_the_corpora_are_telling(samples):
    """Hypotheses are empty, short, right and wrong, and references of one to six captions."""
    values = rouge.scores(samples)
    if len(values) > 99:
        assert (values == 0).any() and (values > 0.999).any() and 0.3 < values.mean() < 0.8
        assert {len(r) for r in samples.references} == set(range(1, 7)) and "" in samples.hypotheses


@with_java
def test_tokens_are_those_of_the_original():
    from pycocoevalcap.tokenizer.ptbtokenizer import PTBTokenizer

    captions = [caption for caption, _ in CASES]
    draw = random.Random(0)
    pieces = [word for caption in captions[:10] + captions[45:60] for word in caption.split() if not word[0].isdigit()]
    captions += [" ".join(draw.choices(pieces, k=8)) for _ in range(300)]
    with contextlib.redirect_stderr(io.StringIO()):
        found = PTBTokenizer().tokenize({i: [{"caption": caption}] for i, caption in enumerate(captions)})
    different = [(c, tokenize(c), found[i][0]) for i, c in enumerate(captions) if tokenize(c) != found[i][0]]
    assert not different[:3]
    assert [tokens for _, tokens in CASES] == [found[i][0] for i in range(len(CASES))]


@with_java
def test_meteor_by_its_program():
    """One start of the program takes 20 seconds, so all that it should do is asked at once."""
    right, close, wrong = "a man rides a red wave", "a man riding red waves", "two cats"
    metric = Meteor()
    batch = Captions([wrong, right, close, ""], [[right], [wrong, right], [right], [right]])
    total, each = metric.scores(metric.update(metric.init(), batch))
    assert each[0] == each[3] == 0 and each[1] == pytest.approx(1, abs=0.01) and 0.2 < each[2] < 0.9
    assert 0 < total < 1


def test_a_java_that_fails_has_one_line(tmp_path, monkeypatch):
    (tmp_path / "java").write_text("#!/bin/sh\necho no\n")
    (tmp_path / "java").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ValueError, match="METEOR: the program of pycocoevalcap failed: "):
        compute(Meteor(), [corpus(3, 0)])
