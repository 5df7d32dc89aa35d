"""The first screen: honest percentages, sentences that link to their sections, and what the model is."""

import math

import jax
import pytest

from codi_jax.report.summary import Finding, ability, findings, listed, opening, parameters, percent
from tests import toy


@pytest.mark.parametrize(
    ("value", "shown"),
    [(1, "100 %"), (0.9996, "99.96 %"), (0.5, "50 %"), (0.6172, "61.7 %"), (0.0002, "0.02 %"), (0, "0 %")],
)
def test_only_all_is_shown_as_100_percent_and_only_none_as_0(value, shown):
    assert percent(value).replace("\N{NO-BREAK SPACE}", " ") == shown


def test_names_are_listed():
    assert listed(["text"]) == "text" and listed(["text", "image"]) == "text and image"
    assert listed(["text", "image", "audio"], "or") == "text, image or audio"


def test_what_a_model_does_is_one_sentence():
    assert ability(["text", "image"]) == (
        "Given text or image or both, it generates text or image, or several at once that belong together."
    )
    assert "text, image or audio or any mix of them" in ability(["text", "image", "audio"])
    for n in (1, 2, 4):
        assert ability(["text", "image", "audio", "video"][:n]).count(".") == 1


def test_parameters_are_those_of_the_model():
    codi = toy.codi()
    leaves = jax.tree.leaves(jax.eval_shape(codi.init, jax.random.key(0)))
    assert parameters(codi) == f"{sum(math.prod(leaf.shape) for leaf in leaves):,} parameters"


def test_findings_are_sentences_with_links_and_what_to_read_them_with():
    best = Finding(
        "Audio shows <it> in ", 0.875, " of 8 samples.", "95 % interval 50 % to 99 %; chance 10 %.", "matrix"
    )
    worst = Finding("Video shows it in ", 0.125, " of 8 samples.", "chance 10 %.", "together")
    html = findings([best], [worst], "Ordered.")
    assert '<a href="#matrix">Audio shows &lt;it&gt; in <b>87.5\N{NO-BREAK SPACE}%</b> of 8 samples.</a>' in html
    assert "95 % interval 50 % to 99 %; chance 10 %." in html and "Ordered." in html
    assert (
        html.index("What it does best")
        < html.index("#matrix")
        < html.index("What it does worst")
        < html.index("#together")
    )


def test_the_opening_escapes_names():
    html = opening("<run>", "a & b", "It does.", ["x", "<y>"], None)
    assert "codi_jax · &lt;run&gt;" in html and "<h1>a &amp; b</h1>" in html and "x · &lt;y&gt;" in html
