"""Attention over weighted tokens, by every kernel; the choice of a kernel."""

import logging

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from codi_jax.cli.common import print_choices
from codi_jax.config import ConfigError
from codi_jax.nn import attention_kernels as kernels
from codi_jax.nn.attention import Attention, attend, choose
from codi_jax.nn.attention_kernels import Sizes
from codi_jax.parallel.flops import count
from codi_jax.parallel.hardware import Hardware
from codi_jax.types import MASKED, Tokens
from tests.nn import toy


@pytest.fixture(autouse=True)
def logged(monkeypatch):
    """Commands that ran in this process may have left the logger to themselves."""
    monkeypatch.setattr(logging.getLogger("codi_jax"), "propagate", True)


@pytest.fixture(scope="module")
def setup():
    x = toy.normal(0, toy.B, 5, 16)
    module = Attention(heads=4)
    return module, toy.init(module, x, toy.CONTEXT), x


def test_scores_are_scaled_by_the_width_of_a_head():
    q, k, v = (toy.normal(seed, 1, 3, 1, 4) for seed in range(3))
    scores = np.exp(np.einsum("pd,ld->pl", q[0, :, 0], k[0, :, 0]) / 2)
    want = scores / scores.sum(-1, keepdims=True) @ v[0, :, 0]
    np.testing.assert_allclose(attend(q, k, v)[0, :, 0], want, atol=1e-5)


def test_a_masked_token_has_no_effect(setup):
    module, params, x = setup
    values = toy.CONTEXT.values
    junk = jnp.concatenate([values, 100 * values[:, :1]], axis=1)
    bias = jnp.array([[0.0, 0.0, MASKED]] * toy.B)
    masked = toy.apply(module, params, x, Tokens(junk, bias))
    np.testing.assert_allclose(masked, toy.apply(module, params, x, toy.CONTEXT), atol=1e-6)


def test_a_token_of_weight_two_counts_twice(setup):
    module, params, x = setup
    values = toy.CONTEXT.values
    heavy = Tokens(values, jnp.log(jnp.array([[2.0, 1.0]] * toy.B)))
    twice = Tokens.of(jnp.concatenate([values[:, :1], values], axis=1))
    np.testing.assert_allclose(toy.apply(module, params, x, heavy), toy.apply(module, params, x, twice), atol=1e-6)


def test_attention_to_a_fully_masked_context_is_finite(setup):
    module, params, x = setup
    out = toy.apply(module, params, x, Tokens(toy.CONTEXT.values, jnp.full((toy.B, 2), MASKED)))
    assert np.isfinite(out).all()


def test_attention_to_one_token_equals_the_general_formula(setup):
    """Beside a masked token, whose weight is exactly 0, the general formula has to be used. Gradients too."""
    module, params, x = setup
    one = Tokens(toy.normal(7, toy.B, 1, toy.D), jnp.array([[-2.0]] * toy.B))
    assert jax.tree.map(jnp.shape, toy.init(module, x, one)) == jax.tree.map(jnp.shape, params)

    def loss(params, values, extra):
        masked = Tokens(jnp.pad(values, ((0, 0), (0, 1), (0, 0))), jnp.array([[-2.0, MASKED]] * toy.B))
        y = x + module.apply({"params": params}, x, masked if extra else Tokens(values, one.bias))
        return jnp.sum(jnp.sin(y)), y

    run = jax.jit(jax.value_and_grad(loss, argnums=(0, 1), has_aux=True), static_argnums=2)
    one_token, general = (run(params, one.values, extra) for extra in (False, True))
    scale = max(np.abs(leaf).max() for leaf in jax.tree.leaves(general))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-6 * scale), one_token, general)
    assert not one_token[1][0]["query"]["kernel"].any()


def test_attention_to_one_token_computes_one_vector(setup):
    module, params, x = setup
    one = Tokens.of(toy.normal(7, toy.B, 1, toy.D))
    program = jax.make_jaxpr(lambda p, x: module.apply({"params": p}, x, one))(params, x)
    assert count(program).total == 2 * toy.B * (toy.D * 16 + 16 * 16)  # W_v and W_o of one token


Q, K, V = (toy.normal(seed, 2, 256, 2, 24) for seed in range(3))


def value_and_gradients(kernel, bias=None, dtype=jnp.float32):
    def loss(q, k, v):
        y = attend(q, k, v, bias, kernel)
        return jnp.sum(jnp.sin(y.astype(jnp.float32))), y

    arguments = (x.astype(dtype) for x in (Q, K, V))
    return jax.jit(jax.value_and_grad(loss, argnums=(0, 1, 2), has_aux=True))(*arguments)


def assert_equal(got, want, tolerance):
    scale = max(np.abs(leaf.astype(np.float32)).max() for leaf in jax.tree.leaves(want[1]))

    def close(a, b):
        np.testing.assert_allclose(np.float32(a), np.float32(b), atol=tolerance * scale)

    jax.tree.map(close, (got[0][1], got[1]), (want[0][1], want[1]))


CHUNKS = {"a head at a time": 256, "48 queries of a head at a time, the last chunk filled up": 48}


@pytest.mark.parametrize("queries", CHUNKS.values(), ids=CHUNKS)
@pytest.mark.parametrize("bias", [(), (256,), (2, 1, 1, 256), (256, 256), (2, 2, 256, 256)], ids=str)
def test_chunks_give_the_same_values_and_gradients(bias, queries, monkeypatch):
    monkeypatch.setattr(kernels, "CHUNK", queries * 4 * 2 * 256)
    monkeypatch.setattr(kernels, "ROWS", 48)
    bias = toy.normal(4, *bias) if bias else None
    assert_equal(value_and_gradients("chunked", bias), value_and_gradients("xla", bias), 2e-6)


def test_chunks_bound_the_memory(monkeypatch):
    """The gradient with all scores keeps them for the backward pass, besides other copies."""
    monkeypatch.setattr(kernels, "CHUNK", 2**20)
    q = jnp.zeros((1, 1024, 2, 8))
    temporary = {}
    for kernel in ("chunked", "xla"):
        gradient = jax.jit(jax.grad(lambda q: attend(q, q, q, kernel=kernel).sum()))  # noqa: B023
        temporary[kernel] = gradient.lower(q).compile().memory_analysis().temp_size_in_bytes
    assert temporary["chunked"] < 8 * 2**20 < 16 * 2**20 <= temporary["xla"]


def test_chunks_of_few_queries_do_not_get_fewer(monkeypatch):
    """However many samples there are, a chunk has enough queries to fill a matrix unit."""
    monkeypatch.setattr(kernels, "CHUNK", 1)
    q = jax.ShapeDtypeStruct((64, 257, 4, 8), jnp.float32)
    scores, _ = count(jax.make_jaxpr(lambda q: attend(q, q, q, kernel="chunked"))(q)).products
    assert (scores.times, scores.array) == (8, "float32[64,1,129,257]")


@pytest.mark.parametrize(("dtype", "tolerance"), [(jnp.float32, 2e-6), (jnp.bfloat16, 2e-2)])
def test_splash_gives_the_same_values_and_gradients(dtype, tolerance):
    """Interpreted, with two blocks of queries and of keys."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(kernels, "BLOCK", 128)
        got = value_and_gradients("splash", dtype=dtype)
    assert got[0][1].dtype == dtype
    assert_equal(got, value_and_gradients("xla", dtype=dtype), tolerance)


def test_cudnn_is_called_with_our_shapes(monkeypatch):
    """Here there is no GPU: jax's own XLA implementation of the same function takes the place of cuDNN's."""
    real = jax.nn.dot_product_attention
    given = []

    def fake(*arguments, implementation):
        given.append(implementation)
        return real(*arguments, implementation="xla")

    monkeypatch.setattr(jax.nn, "dot_product_attention", fake)
    for bias in (None, toy.normal(4, 256), toy.normal(4, 2, 1, 1, 256)):
        got = kernels.cudnn(Q, K, V, bias)
        np.testing.assert_allclose(got, kernels.xla(Q, K, V, bias), atol=2e-6)
    assert given == ["cudnn"] * 3


TPU, HOPPER, AMPERE, CPU = Hardware("tpu"), Hardware("gpu", hopper=True), Hardware("gpu"), Hardware("cpu")


@pytest.mark.parametrize(
    ("hardware", "sizes", "kernel"),
    [
        (TPU, Sizes(4, 4096, 8, 24, 4096, "bfloat16", False), "splash"),
        (TPU, Sizes(4, 1024, 8, 80, 1024, "float32", False), "splash"),
        (TPU, Sizes(4, 256, 8, 160, 256, "bfloat16", False), "xla"),  # few scores
        (TPU, Sizes(4, 4096, 8, 24, 4096, "bfloat16", True), "chunked"),  # a bias, many scores
        (TPU, Sizes(4, 1025, 8, 24, 1025, "bfloat16", False), "chunked"),  # not a multiple of 128
        (HOPPER, Sizes(4, 4096, 8, 160, 4096, "bfloat16", True), "cudnn"),
        (AMPERE, Sizes(4, 4096, 8, 160, 4096, "bfloat16", False), "chunked"),  # too wide
        (AMPERE, Sizes(4, 4096, 8, 40, 4096, "bfloat16", False), "cudnn"),
        (HOPPER, Sizes(4, 4096, 8, 40, 4096, "float32", False), "chunked"),
        (CPU, Sizes(1, 1024, 8, 40, 1024, "float32", False), "xla"),
        (CPU, Sizes(4, 1024, 8, 40, 1024, "float32", False), "xla"),  # exactly LARGE
        (CPU, Sizes(5, 1024, 8, 40, 1024, "float32", False), "chunked"),
        (CPU, Sizes(8, 1024, 8, 40, 1024, "float32", False, parts=8), "xla"),  # 32 MiB on a device
    ],
    ids=str,
)
def test_a_kernel_is_chosen_by_hardware_and_sizes(hardware, sizes, kernel):
    assert choose("auto", sizes, hardware) == kernel


@pytest.mark.parametrize(
    ("kernel", "hardware", "dtype", "message"),
    [
        ("cudnn", CPU, "bfloat16", "cudnn cannot be used: it needs an NVIDIA GPU, and this is cpu; use auto"),
        ("cudnn", HOPPER, "float32", "it computes bfloat16 or float16, not float32"),
        ("splash", HOPPER, "bfloat16", "it needs a TPU"),
        ("flash", TPU, "bfloat16", "'flash' is none of auto, xla, chunked, cudnn, splash"),
    ],
)
def test_a_named_kernel_that_cannot_be_used_says_why(kernel, hardware, dtype, message):
    with pytest.raises(ConfigError, match=f"config.model.attention: .*{message}"):
        choose(kernel, Sizes(2, 256, 8, 40, 256, dtype, False), hardware)


@pytest.mark.parametrize(
    ("kernel", "hardware", "change", "why"),
    [
        ("cudnn", HOPPER, {}, ""),
        ("cudnn", HOPPER, {"width": 36}, "heads are no multiple of 8 up to 256"),
        ("cudnn", AMPERE, {"width": 160}, "heads are no multiple of 8 up to 128"),
        ("cudnn", HOPPER, {"biased": True, "keys": 77}, "a bias needs even lengths"),
        ("splash", TPU, {}, ""),
        ("splash", TPU, {"biased": True}, "it takes no bias"),
        ("splash", TPU, {"keys": 77}, "lengths are no multiples of 128"),
        ("splash", TPU, {"width": 512}, "heads are wider than 256"),
    ],
)
def test_a_named_kernel_computes_what_it_can(kernel, hardware, change, why, caplog):
    choose.cache_clear()
    sizes = Sizes(**{**vars(Sizes(2, 256, 8, 40, 256, "bfloat16", False)), **change})
    with caplog.at_level(logging.DEBUG, logger="codi_jax.nn.attention"):
        assert choose(kernel, sizes, hardware) == ("xla" if why else kernel)
    assert caplog.messages[0].endswith(f"xla ({why})" if why else f": {kernel}")


def test_a_choice_is_logged_once_and_those_of_few_scores_for_debugging(caplog):
    choose.cache_clear()
    with caplog.at_level(logging.DEBUG, logger="codi_jax.nn.attention"):
        for _ in range(2):
            attend(Q, K, V)
            choose("auto", Sizes(4, 4096, 8, 24, 4096, "bfloat16", False), TPU)
    assert [(record.levelname, record.message) for record in caplog.records] == [
        ("DEBUG", "attention 256 × 256, 2 heads of 24, float32 on cpu: xla"),
        ("INFO", "attention 4096 × 4096, 8 heads of 24, bfloat16 on tpu: splash"),
    ]


def test_commands_print_choices_once(capsys, monkeypatch):
    monkeypatch.setattr(logging.getLogger("codi_jax"), "handlers", [])
    for _ in range(2):
        print_choices()
    choose.cache_clear()
    for sizes in (Sizes(1, 64, 1, 8, 64, "float32", False), Sizes(1, 1024, 1, 8, 1024, "float32", False)):
        choose("auto", sizes, CPU)
    assert capsys.readouterr().out == "attention 1024 × 1024, 1 heads of 8, float32 on cpu: xla\n"
