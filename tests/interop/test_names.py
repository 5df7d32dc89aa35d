"""Name tables in both directions, and their errors."""

import jax
import numpy as np
import pytest
from flax import traverse_util

from codi_jax.config import ConfigError
from codi_jax.interop.names import LAYOUTS, NamesError, Rule, affine, at, from_release, norm, to_release, under

THEIRS = {
    "same": (3,),
    "linear": (2, 3),
    "conv1d": (2, 3, 5),
    "conv2d": (2, 3, 5, 7),
    "conv1d_transpose": (2, 3, 5),
    "matrix_1x1": (2, 3),
    "pointwise1": (2, 3, 1),
    "pointwise2": (2, 3, 1, 1),
    "pointwise3": (2, 3, 1, 1, 1),
    "gain_1c1": (1, 3, 1),
    "gain_c111": (3, 1, 1, 1),
    "table": (1, 2, 3),
}
OURS = {
    "same": (3,),
    "linear": (3, 2),
    "conv1d": (5, 3, 2),
    "conv2d": (5, 7, 3, 2),
    "conv1d_transpose": (5, 2, 3),
    "matrix_1x1": (1, 1, 3, 2),
    "pointwise1": (3, 2),
    "pointwise2": (3, 2),
    "pointwise3": (3, 2),
    "gain_1c1": (3,),
    "gain_c111": (3,),
    "table": (2, 3),
}

RULES = [
    *at("h.{i}", "block_{i}", [*affine("mlp", "dense"), *norm("ln", "norm")]),
    Rule("embed", "token/embedding"),
    Rule("head", "token/embedding", tied=True),
    Rule("{part:[a-z]+}_scale", "{part:[a-z]+}/gain"),
]


def state(seed: int = 0) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    shapes = {"h.0.mlp.weight": (2, 3), "h.0.mlp.bias": (2,), "h.12.ln.weight": (4,), "h.12.ln.bias": (4,)}
    out = {k: rng.standard_normal(s).astype(np.float32) for k, s in {**shapes, "embed": (5, 4), "in_scale": ()}.items()}
    return {**out, "head": out["embed"]}


def target() -> dict:
    shapes = {
        "block_0/dense/kernel": (3, 2),
        "block_0/dense/bias": (2,),
        "block_12/norm/scale": (4,),
        "block_12/norm/bias": (4,),
        "token/embedding": (5, 4),
        "in/gain": (),
    }
    return traverse_util.unflatten_dict({k: jax.ShapeDtypeStruct(s, np.float32) for k, s in shapes.items()}, sep="/")


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_is_a_bijection(layout):
    x = np.arange(np.prod(THEIRS[layout]), dtype=np.float32).reshape(THEIRS[layout])
    ours = LAYOUTS[layout].to_ours(x)
    assert ours.shape == OURS[layout]
    np.testing.assert_array_equal(LAYOUTS[layout].to_theirs(ours), x)


def test_a_transposed_convolution_is_flipped():
    assert LAYOUTS["conv1d_transpose"].to_ours(np.array([[[1, 2, 3]]])).ravel().tolist() == [3, 2, 1]


def test_the_round_trip_is_exact():
    tree = from_release(state(), RULES, target())
    assert jax.tree.map(np.shape, tree) == jax.tree.map(lambda x: x.shape, target())
    np.testing.assert_array_equal(tree["block_0"]["dense"]["kernel"], state()["h.0.mlp.weight"].T)
    back = to_release(tree, RULES)
    assert set(back) == set(state())
    for key, value in state().items():
        np.testing.assert_array_equal(back[key], value)


def test_the_first_matching_rule_is_used():
    rules = [Rule("a.{i}", "first_{i}"), Rule("a.0", "second")]
    tree = from_release({"a.0": np.ones(1)}, rules, {"first_0": np.zeros(1)})
    assert set(tree) == {"first_0"}


def test_floats_take_the_targets_dtype():
    half = {k: v.astype(np.float16) for k, v in state().items()}
    assert {leaf.dtype for leaf in jax.tree.leaves(from_release(half, RULES, target()))} == {np.dtype(np.float32)}


def test_ignored_buffers_and_removed_prefixes():
    full = {f"net.{k}": v for k, v in state().items()} | {"net.h.3.mask": np.ones(1), "other.x": np.ones(1)}
    from_release(under(full, "net."), RULES, target(), ignore=[r"h\.\d+\.mask"])
    with pytest.raises(NamesError, match=r"unexpected: h\.3\.mask"):
        from_release(under(full, "net."), RULES, target())


def test_all_errors_are_named_at_once():
    broken = state()
    del broken["h.12.ln.bias"]
    broken["h.0.mlp.weight"] = np.ones((9, 3), np.float32)
    broken["h.0.mlp.bias"] = np.ones((2,), np.int64)
    broken["h.7.mlp.bias"] = np.ones((2,), np.float32)
    broken["nothing"] = np.ones((2,), np.float32)
    with pytest.raises(ConfigError) as error:
        from_release(broken, RULES, target())
    message = str(error.value)
    for part in (
        "missing: h.12.ln.bias (our block_12/norm/bias)",
        "unexpected: h.7.mlp.bias (our block_7/dense/bias), nothing",
        "misshaped: h.0.mlp.weight (3, 9), expected (3, 2) as block_0/dense/kernel",
        "mistyped: h.0.mlp.bias int64, expected float32",
    ):
        assert part in message
    assert "\n" not in message


def test_a_tensor_of_the_wrong_rank_is_named():
    broken = {**state(), "h.0.mlp.weight": np.ones((2, 3, 1), np.float32)}
    with pytest.raises(NamesError, match=r"h\.0\.mlp\.weight \(2, 3, 1\) does not have the layout linear"):
        from_release(broken, RULES, target())


def test_ties_may_be_absent_but_not_differ():
    untied = state()
    del untied["head"]
    from_release(untied, RULES, target())
    with pytest.raises(NamesError, match="untied: head differs"):
        from_release({**state(), "head": state(1)["embed"]}, RULES, target())


def test_two_tensors_for_one_leaf_are_refused():
    rules = [*RULES, Rule("copy", "token/embedding")]
    with pytest.raises(NamesError, match="doubled: copy"):
        from_release({**state(), "copy": state()["embed"]}, rules, target())


def test_a_leaf_without_a_rule_cannot_be_written():
    with pytest.raises(NamesError, match="without a rule: extra/kernel"):
        to_release({"extra": {"kernel": np.ones(1)}}, RULES)
