import pytest

from codi_jax.encoders.text_postprocess import tidy


@pytest.mark.parametrize(
    ("given", "want"),
    [
        ("", ""),
        ("  a   dog ", "a dog"),
        ("a a a dog", "a dog"),
        ("a dog runs a dog runs a dog runs fast", "a dog runs fast"),
        ("one two three one two three four", "one two three four"),
        ("a dog , a cat .", "a dog, a cat."),
        ("stop!! now", "stop! now"),
        ("( a dog ) ran", "(a dog) ran"),
        ("a dog (black) dog", "a dog (black) dog"),
        ("dog. dog. dog.", "dog."),
        ("A a", "A a"),
    ],
)
def test_tidy(given, want):
    assert tidy(given) == want
    assert tidy(want) == want
