"""Markup is kept and content is escaped."""

from codi_jax.report.markup import Html, el, join, number, rows


def test_content_and_attributes_are_escaped():
    assert el("p", "<script>", title='"&"') == '<p title="&quot;&amp;&quot;">&lt;script&gt;</p>'
    assert (
        el("p", Html("<b>x</b>"), class_="y", stroke_width=2, id=None) == '<p class="y" stroke-width="2"><b>x</b></p>'
    )


def test_children_nest_and_none_is_omitted():
    assert join(["a", None, ["b", (x for x in (1, Html("<i></i>")))]]) == "ab1<i></i>"


def test_table_and_numbers():
    assert number(None) == "–" and number(0.98765, 2) == "0.99"
    table = rows(["x", "y"], [["a", "<"]])
    assert '<th scope="row">a</th><td>&lt;</td>' in table
