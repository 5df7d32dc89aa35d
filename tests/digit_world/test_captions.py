from itertools import combinations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from codi_jax.digit_world.captions import (
    ARTICLES,
    CLAUSES,
    ORDERS,
    PATTERNS,
    SUBJECTS,
    VOCABULARY,
    WAYS,
    caption,
    parse,
    truncate,
    vocabulary,
)
from codi_jax.digit_world.factors import COLOURS, DIGITS, FACTORS

SUBSETS = [s for n in range(len(FACTORS) + 1) for s in combinations(FACTORS, n)]
factors = st.fixed_dictionaries({name: st.integers(0, len(values) - 1) for name, values in FACTORS.items()})
unit = st.floats(0, 1, exclude_max=True)
ways = st.fixed_dictionaries(dict.fromkeys(WAYS, unit))
FIRST = dict.fromkeys(WAYS, 0.0)


@settings(deadline=None)
@given(factors, st.sampled_from(SUBSETS), ways, st.booleans(), st.sampled_from(list(SUBJECTS)))
def test_a_caption_parses_to_the_factors_that_it_mentions(values, mention, ways, figure, wordings):
    text = caption(values, mention, ways, figure, wordings)
    assert parse(text) == {name: value if name in mention else None for name, value in values.items()}
    assert set(text.split()) <= set(VOCABULARY)


@pytest.mark.parametrize("wordings", SUBJECTS)
def test_every_subject_of_every_digit_and_colour_parses_back(wordings):
    for mention, templates in SUBJECTS[wordings].items():
        for k in range(len(templates)):
            way = {**FIRST, "caption": k / len(templates) + 1e-9}
            captions = {
                caption({"digit": d, "colour": c}, mention, way, figure, wordings): (d, c)
                for d in range(len(DIGITS)) for c in range(len(COLOURS)) for figure in (True, False)
            }  # fmt: skip
            if len(mention) == 2:
                assert len(captions) == 120  # no two samples share a caption
                assert {text: (parse(text)["digit"], parse(text)["colour"]) for text in captions} == captions


def test_captions_of_five_factors():
    sample = {"digit": 7, "colour": 1, "motion": 2, "voice": 0, "moment": 2}
    assert caption(sample, tuple(FACTORS), FIRST, False) == "a green seven moving up with a low voice bouncing late"
    other = {**FIRST, "order": 0.5, "moment": 0.5}
    assert caption(sample, tuple(FACTORS), other, False) == "a green seven with a low voice bounces late moving up"
    unseen = caption(sample, tuple(FACTORS), FIRST, False, "unseen")
    assert unseen == "this green seven moving up bouncing late with a low voice"
    last = dict.fromkeys(WAYS, 0.999)
    assert caption(sample, ("digit", "motion"), last, True).endswith("7 going up")
    assert caption(sample, ("voice",), last, True) == "this number and a low voice"
    # Each clause is picked by its own number.
    assert (
        caption(sample, ("digit", "voice", "motion"), {**FIRST, "motion": 0.9}, True) == "a 7 going up with a low voice"
    )
    assert parse(unseen) == sample
    assert parse("something going down") == {**dict.fromkeys(FACTORS), "motion": 3}


def test_every_clause_of_every_value_parses_back():
    for factor, templates in CLAUSES.items():
        for k in range(len(templates)):
            for value in range(len(FACTORS[factor])):
                sample = {**dict.fromkeys(FACTORS, 0), factor: value}
                text = caption(sample, (factor,), {**FIRST, factor: k / len(templates) + 1e-9}, False)
                assert parse(text) == {**dict.fromkeys(FACTORS), factor: value}


def test_the_templates_cover_all_subsets_of_factors():
    for subjects in SUBJECTS.values():
        assert set(subjects) == {(), ("digit",), ("colour",), ("digit", "colour")}
    assert {"digit", "colour", *CLAUSES} == set(FACTORS)
    assert all(set(order) == set(CLAUSES) for orders in ORDERS.values() for order in orders)


def test_unseen_wordings_are_different_sentences_of_the_same_words():
    for mention, templates in SUBJECTS["unseen"].items():
        assert not set(templates) & set(SUBJECTS["trained"][mention])
    assert not set(ORDERS["unseen"]) & set(ORDERS["trained"])
    for mention, patterns in PATTERNS.items():
        subjects = [subject.split(" ", 1) for subject in SUBJECTS["trained"][mention]]
        assert {pattern for _, pattern in subjects} == set(patterns)
        if mention:
            assert {article for article, _ in subjects} == set(ARTICLES)
        assert len(SUBJECTS["unseen"][mention]) + len(subjects) == len(ARTICLES) * len(patterns)
    for place in range(len(CLAUSES)):  # training has every clause in every position
        assert {order[place] for order in ORDERS["trained"]} == set(CLAUSES)
    words = {word for subjects in SUBJECTS["unseen"].values() for way in subjects for word in way.split()}
    assert {word for word in words if "{" not in word} <= set(vocabulary(()))


def test_every_word_has_one_meaning():
    words = [word for values in FACTORS.values() for word in values]
    assert len(words) == len(set(words))
    subjects = [ways for wordings in SUBJECTS.values() for ways in wordings.values()]
    fixed = {w for ways in (*subjects, *CLAUSES.values()) for way in ways for w in way.split() if "{" not in w}
    assert not fixed & set(words)


def test_articles():
    eight = {"digit": 8, "colour": 0}
    assert caption(eight, ("digit",), FIRST, False) == "an eight"
    assert caption(eight, ("digit",), FIRST, True) == "an 8"
    assert caption(eight, ("digit", "colour"), FIRST, True) == "a red 8"


def test_parse_returns_none_for_missing_or_ambiguous_factors():
    def subject(text):
        factors = parse(text)
        assert factors["motion"] is factors["voice"] is factors["moment"] is None
        return factors["digit"], factors["colour"]

    assert subject("A red Seven!") == (7, 0)
    assert subject("") == (None, None)
    assert subject("a red seven seven") == (None, 0)
    assert subject("a red or blue 7") == (7, None)
    assert subject("a red 77") == (None, 0)
    text = parse("a 7 moving up going down with a low voice bouncing late")
    assert text == {"digit": 7, "colour": None, "motion": None, "voice": 0, "moment": 2}


@settings(deadline=None)
@given(st.sampled_from(SUBSETS), unit, st.floats(0, 1))
def test_a_prompt_is_truncated_if_u_is_below_the_probability(mention, u, probability):
    got = truncate(mention, u, probability)
    assert set(got) <= set(mention)
    assert (got == mention) == (u >= probability or not mention)


def test_all_proper_subsets_are_equally_likely():
    mention = ("digit", "motion", "voice")
    got = [truncate(mention, (i + 0.5) / 70 * 0.5, 0.5) for i in range(70)]
    assert {s: got.count(s) for s in got} == {s: 10 for n in range(3) for s in combinations(mention, n)}


def test_no_subject_and_no_order_of_clauses_is_in_both_sets_of_wordings():
    """Subjects are compared with all values filled in, also where they mention different factors."""

    def subjects(wordings):
        return {
            text
            for mention, templates in SUBJECTS[wordings].items()
            for k in range(len(templates))
            for digit in range(len(DIGITS)) for colour in range(len(COLOURS)) for figure in (True, False)
            for text in [
                caption({"digit": digit, "colour": colour}, mention, {**FIRST, "caption": (k + 0.5) / len(templates)},
                        figure, wordings)
            ]
        }  # fmt: skip

    trained, unseen = subjects("trained"), subjects("unseen")
    assert len(trained) > 1000 < 3 * len(unseen) and not trained & unseen
    assert not set(ORDERS["trained"]) & set(ORDERS["unseen"])
    assert {len(orders) for orders in ORDERS.values()} == {3}  # of the six, each is in one set
