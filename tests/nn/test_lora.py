"""Adapters: their product by hand, what is the same before training, sums of several, and what does not fit."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from codi_jax.config import ConfigError
from codi_jax.nn import lora
from codi_jax.nn.conv import Conv3x3
from codi_jax.nn.layers import Dense
from codi_jax.optim import LoRAConfig, merge
from codi_jax.optim.lora import ranks
from codi_jax.parallel import paths
from tests import toy

PARAMS = toy.drawn(
    {
        "unet": {
            "dense": {
                "kernel": jax.ShapeDtypeStruct((6, 5), np.float32),
                "bias": jax.ShapeDtypeStruct((5,), np.float32),
            },
            "conv": {"kernel": np.zeros((3, 3, 4, 8), np.float32)},
        }
    }
)
RANKS = {"unet/dense/kernel": 2, "unet/conv/kernel": 3}


def adapters(seed=0, ranks=RANKS, alpha=0.0):
    """Adapters whose B is not zero."""
    tree = lora.init(jax.random.key(seed), PARAMS, ranks, alpha)
    rng = np.random.default_rng(seed)
    flat = {
        path: rng.standard_normal(x.shape).astype(np.float32) if path.endswith("lora_b") else x
        for path, x in paths.flatten(tree).items()
    }
    return paths.nest(flat)


def kernel(tree, layer):
    return np.asarray(tree["unet"][layer]["kernel"])


def test_a_dense_kernel_plus_its_product_by_hand():
    tree = adapters(alpha=3.0)
    a, b = (np.asarray(tree["unet"]["dense"][name], np.float64) for name in ("lora_a", "lora_b"))
    expected = np.array([[sum(a[i, k] * b[k, o] for k in range(2)) for o in range(5)] for i in range(6)])
    out = lora.merged(merge(PARAMS, tree))
    np.testing.assert_allclose(kernel(out, "dense"), kernel(PARAMS, "dense") + 3 / 2 * expected, rtol=1e-5, atol=1e-6)
    assert paths.flatten(out).keys() == paths.flatten(PARAMS).keys()
    np.testing.assert_array_equal(out["unet"]["dense"]["bias"], PARAMS["unet"]["dense"]["bias"])


def test_an_adapted_convolution_is_one_by_a_and_one_of_kernel_size_1_by_b():
    tree, x = adapters(), jnp.asarray(np.random.default_rng(1).standard_normal((2, 7, 6, 4)), jnp.float32)
    site = tree["unet"]["conv"]

    def conv(kernel, x):
        layout = ("NHWC", "HWIO", "NHWC")
        return jax.lax.conv_general_dilated(x, jnp.asarray(kernel), (1, 1), "SAME", dimension_numbers=layout)

    expected = conv(kernel(PARAMS, "conv"), x) + conv(site["lora_b"][None, None], conv(site["lora_a"], x))
    merged = {**lora.merged(merge(PARAMS, tree))["unet"]["conv"], "bias": jnp.zeros(8)}
    np.testing.assert_allclose(Conv3x3(8).apply({"params": merged}, x), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_new_adapters_change_no_bit(dtype):
    params = jax.tree.map(lambda x: x.astype(dtype), PARAMS)
    tree = lora.init(jax.random.key(0), params, RANKS)
    for out in (lora.merged(merge(params, tree)), lora.apply(merge(params, tree))):
        assert toy.same(out, params) and kernel(out, "dense").dtype == dtype
    bound = 1 / np.sqrt(3 * 3 * 4)
    a = np.asarray(tree["unet"]["conv"]["lora_a"])
    assert np.abs(a).max() <= bound and np.abs(a).std() > bound / 5
    x = jnp.ones((1, 6), dtype)
    outputs = [Dense(5, dtype=dtype).apply({"params": p["unet"]["dense"]}, x) for p in (params, out)]
    np.testing.assert_array_equal(*map(np.asarray, outputs))


def test_a_tree_without_adapters_is_returned_as_it_is():
    assert lora.merged(PARAMS) is PARAMS and lora.apply(PARAMS) is PARAMS


def test_merging_does_not_change_what_is_merged():
    before = jax.tree.map(np.array, PARAMS)
    out = lora.apply(merge(PARAMS, adapters()))
    assert toy.same(before, PARAMS) and not toy.same(out, PARAMS)


@pytest.mark.parametrize("alpha", [0.0, 5.0])
def test_several_adapters_are_a_weighted_sum_in_any_order(alpha):
    first, second = adapters(1, alpha=alpha), adapters(2, {"unet/dense/kernel": 4})
    out, back = (
        lora.apply(merge(PARAMS, lora.combine(pairs)))
        for pairs in ([(first, 0.5), (second, -2.0)], [(second, -2.0), (first, 0.5)])
    )
    for layer in ("dense", "conv"):
        deltas = [
            weight * (kernel(lora.apply(merge(PARAMS, tree)), layer) - kernel(PARAMS, layer))
            for tree, weight in ((first, 0.5), (second, -2.0))
        ]
        np.testing.assert_allclose(kernel(out, layer), kernel(PARAMS, layer) + sum(deltas), atol=2e-6)
        np.testing.assert_allclose(kernel(out, layer), kernel(back, layer), atol=1e-6)
    assert lora.size(lora.combine([(first, 1.0), (second, 1.0)])) == lora.size(first) + lora.size(second)


def test_the_weight_of_one_adapter_scales_its_alpha_alone():
    tree = lora.combine([(adapters(alpha=3.0), 0.5)])
    assert toy.same(tree["unet"]["dense"]["lora_b"], adapters()["unet"]["dense"]["lora_b"])
    assert float(tree["unet"]["dense"]["lora_alpha"]) == 1.5
    assert toy.same(lora.apply(merge(PARAMS, lora.combine([(adapters(), 0.0)]))), PARAMS)


def test_gradients_reach_both_matrices():
    def loss(tree):
        return sum(jnp.sum(jnp.square(x)) for x in jax.tree.leaves(lora.merged(merge(PARAMS, tree))))

    grads = paths.flatten(jax.grad(loss)(adapters()))
    assert all(np.abs(np.asarray(g)).max() > 0 for path, g in grads.items())


def config(*rules, **options):
    return LoRAConfig(rules, **options)


def test_the_first_matching_rule_decides_the_rank():
    assert ranks(PARAMS, config(("unet/conv/.*", 3), "unet/.*", rank=2), "rules") == RANKS
    assert ranks(PARAMS, config(("unet/conv/.*", 0), "unet/.*", rank=2), "rules") == {"unet/dense/kernel": 2}


@pytest.mark.parametrize(
    ("rules", "options", "message"),
    [
        (
            ("unet/dnse/.*",),
            {},
            "rules: 'unet/dnse/.*' matches no kernel; the nearest are unet/dense/kernel, unet/conv/kernel",
        ),
        (("unet/dense/bias",), {}, "rules: 'unet/dense/bias' matches no kernel; the nearest are unet/dense/kernel"),
        (("unet/dense/.*",), {"rank": 6}, "rules: rank 6 for unet/dense/kernel [6, 5], which is not of lower rank"),
        ((("unet/.*", 1.5),), {}, "rules: the rank of 'unet/.*' is 1.5, expected a whole number from 0"),
        ((("unet/.*", True),), {}, "rules: the rank of 'unet/.*' is True, expected a whole number from 0"),
        ((("unet/.*", -1),), {}, "rules: the rank of 'unet/.*' is -1, expected a whole number from 0"),
        ((("unet/.*", 0),), {}, "rules: no kernel is adapted"),
        ((), {}, "rules: no kernel is adapted"),
        (("unet/.*", "unet/conv/.*"), {}, "rules: 'unet/conv/.*' has no effect, since earlier rules match all that"),
        (("(",), {}, "rules: '(' is not a regular expression: "),
        ((3,), {}, "rules: a rule is a pair (regex over parameter paths, value), got 3"),
    ],
)
def test_rules_that_do_not_fit_are_refused(rules, options, message):
    with pytest.raises(ConfigError, match="^" + re.escape(message)) as error:
        ranks(PARAMS, config(*rules, **options), "rules")
    assert "\n" not in str(error.value)


def test_a_negative_alpha_is_refused():
    with pytest.raises(ConfigError, match=r"^lora\.alpha: -1\.0 is negative$"):
        config("unet/.*", alpha=-1)


@pytest.mark.parametrize(
    ("tree", "message"),
    [
        ({}, "x: it has no adapter"),
        ({"other": adapters()["unet"]}, "x: this model has no kernel other/conv/kernel"),
        (adapters(ranks={"unet/dense/kernel": 7}), "x: unet/dense has rank 7 for a kernel [6, 5]"),
        (
            {"unet": {"conv": adapters()["unet"]["dense"]}},
            "x: unet/conv has A [6, 2] and B [2, 5] for a kernel [3, 3, 4, 8]",
        ),
    ],
)
def test_adapters_of_another_model_are_refused(tree, message):
    lora.check(PARAMS, adapters(), "x")
    with pytest.raises(ConfigError, match="^" + re.escape(message) + "$"):
        lora.check(PARAMS, tree, "x")
