"""Post-processes a generated caption as the public CoDi release does: drops repetitions and joins punctuation.

1. Drop a word equal to the one before it ("on on a" → "on a").
2. Split leading brackets and trailing punctuation from words; a joint token marks each split.
3. For n = 1, 2, … drop n-grams equal to the n-gram before, until there is none ("a man a man is" → "a man is"). Joints
   count as tokens, so that "!!" becomes "!".
4. Join tokens at the joints. Punctuation that was a word of its own has a joint, too: "table ." → "table.".
"""

JOINT = "\0"  # cannot occur in a word
OPENING = "([{"
CLOSING = "?!.,:;}])"


def _split(word: str) -> list[str]:
    """Splits a word into tokens: "(so)!" → ( joint so joint ) joint !"""
    core = word.lstrip(OPENING)
    before = word[: len(word) - len(core)]
    stem = core.rstrip(CLOSING)
    after = core[len(stem) :]
    tokens = [token for mark in before for token in (mark, JOINT)]
    return tokens + [stem] * bool(stem) + [token for mark in after for token in (JOINT, mark)]


def _drop_repeats(tokens: list[str], n: int) -> list[str]:
    """Drops n-grams equal to the n-gram before, from left to right."""
    tokens, i = list(tokens), 0
    while i + 2 * n <= len(tokens):
        if tokens[i : i + n] == tokens[i + n : i + 2 * n]:
            del tokens[i + n : i + 2 * n]
            i = 0
        else:
            i += 1
    return tokens


def tidy(text: str) -> str:
    """Applies steps 1 to 4 to one caption."""
    tokens = [token for word in _drop_repeats(text.split(), 1) for token in _split(word)]
    n = 1
    while 2 * n <= len(tokens):
        tokens = _drop_repeats(tokens, n)
        n += 1
    return " ".join(tokens).replace(f" {JOINT} ", "").replace(f"{JOINT} ", "").replace(f" {JOINT}", "")
