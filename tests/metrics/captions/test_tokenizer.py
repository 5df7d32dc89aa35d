"""Tokens of captions against those of the original in Java, which `fixtures/ptb_tokens.tsv` records.

A line of the file is a caption, a tab and what PTBTokenizer of CoreNLP 3.4.1 makes of it (-preserveLines -lowerCase)
after pycocoevalcap's removal of punctuation. `tests/parity/oracles/test_caption_scores.py` runs the original on them.
"""

from pathlib import Path

import pytest

from codi_jax.metrics.captions import tokenize

LINES = (Path(__file__).parents[2] / "fixtures" / "ptb_tokens.tsv").read_text("utf-8").splitlines()
CASES = [line.split("\t") for line in LINES]


@pytest.mark.parametrize(("caption", "tokens"), CASES, ids=[str(i) for i in range(len(CASES))])
def test_tokens_are_those_of_the_original(caption, tokens):
    assert tokenize(caption) == tokens


@pytest.mark.parametrize(
    ("caption", "tokens"),
    [
        ("A man doesn't ride; the dog's bone isn't his!", "a man does n't ride the dog 's bone is n't his"),
        ("A black-and-white cat (asleep)", "a black-and-white cat -lrb- asleep -rrb-"),
        ("1,000 “red” balls...", "1,000 red balls"),
        ("", ""),
        (" \n\t ", ""),
        ("...", ""),
    ],
)
def test_captions_by_the_rules(caption, tokens):
    assert tokenize(caption) == tokens


def test_plain_tokens_stay():
    """Words that are tokens already, so that a caption can be tokenized twice."""
    text = "a man rides two well-known horses in 1,000 u.s. fields it 's do n't"
    assert tokenize(text) == text
