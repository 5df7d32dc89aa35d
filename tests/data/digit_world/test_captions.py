from hypothesis import given, settings
from hypothesis import strategies as st

from codi_jax.data.digit_world.captions import SUBSETS, TEMPLATES, VOCABULARY, caption, parse, truncate
from codi_jax.data.digit_world.factors import COLOURS, DIGITS, FACTORS

factors = st.fixed_dictionaries({name: st.integers(0, len(values) - 1) for name, values in FACTORS.items()})
unit = st.floats(0, 1, exclude_max=True)


@settings(deadline=None)
@given(factors, st.sampled_from(SUBSETS), unit, st.booleans())
def test_a_caption_says_what_it_mentions_and_nothing_else(values, mention, way, figure):
    said = caption(values, mention, way, figure)
    assert parse(said) == {name: value if name in mention else None for name, value in values.items()}
    assert set(said.split()) <= set(VOCABULARY)


def test_every_template_of_every_digit_and_colour_parses_back():
    for mention, ways in TEMPLATES.items():
        for k in range(len(ways)):
            said = {
                caption({"digit": d, "colour": c}, mention, k / len(ways) + 1e-9, figure): (d, c)
                for d in range(len(DIGITS)) for c in range(len(COLOURS)) for figure in (True, False)
            }  # fmt: skip
            if len(mention) == 2:
                assert len(said) == 120  # no two samples share a caption
                assert {text: tuple(parse(text).values()) for text in said} == said


def test_the_templates_cover_all_subsets_of_the_factors():
    assert set(TEMPLATES) == set(SUBSETS) and SUBSETS[0] == tuple(FACTORS)


def test_articles():
    eight = {"digit": 8, "colour": 0}
    assert caption(eight, ("digit",), 0, False) == "an eight"
    assert caption(eight, ("digit",), 0, True) == "an 8"
    assert caption(eight, ("digit", "colour"), 0, True) == "a red 8"


def test_parse_refuses_what_is_ambiguous():
    assert parse("A red Seven!") == {"digit": 7, "colour": 0}
    assert parse("") == {"digit": None, "colour": None}
    assert parse("a red seven seven") == {"digit": None, "colour": 0}
    assert parse("a red or blue 7") == {"digit": 7, "colour": None}
    assert parse("a red 77") == {"digit": None, "colour": 0}


@settings(deadline=None)
@given(unit, st.floats(0, 1))
def test_truncation_happens_below_its_probability(u, probability):
    assert (truncate(u, probability) == SUBSETS[0]) == (u >= probability)
