"""Tidies a drawn caption the way the public CoDi release does: repetitions out, punctuation glued.

1. A word equal to the one before it is dropped ("on on a" → "on a").
2. Brackets that open a word and punctuation that closes it become tokens of their own, tied to the word by a joint.
3. For n = 1, 2, … an n-gram that repeats at once is dropped until none does ("a man a man is" → "a man is"). Joints
   count as tokens, so that "!!" becomes "!".
4. Joints are closed. Punctuation that stood alone has a joint too, hence "table ." → "table.".
"""

JOINT = "\0"  # cannot occur in a word
OPENING = "([{"
CLOSING = "?!.,:;}])"


def _split(word: str) -> list[str]:
    """A word to its tokens: "(so)!" → ( joint so joint ) joint !"""
    core = word.lstrip(OPENING)
    before = word[: len(word) - len(core)]
    stem = core.rstrip(CLOSING)
    after = core[len(stem) :]
    tokens = [token for mark in before for token in (mark, JOINT)]
    return tokens + [stem] * bool(stem) + [token for mark in after for token in (JOINT, mark)]


def _drop_repeats(tokens: list[str], n: int) -> list[str]:
    """Drops n-grams that follow themselves, the leftmost first."""
    tokens, i = list(tokens), 0
    while i + 2 * n <= len(tokens):
        if tokens[i : i + n] == tokens[i + n : i + 2 * n]:
            del tokens[i + n : i + 2 * n]
            i = 0
        else:
            i += 1
    return tokens


def tidy(text: str) -> str:
    """Applies the four steps to one caption."""
    tokens = [token for word in _drop_repeats(text.split(), 1) for token in _split(word)]
    n = 1
    while 2 * n <= len(tokens):
        tokens = _drop_repeats(tokens, n)
        n += 1
    return " ".join(tokens).replace(f" {JOINT} ", "").replace(f"{JOINT} ", "").replace(f" {JOINT}", "")
