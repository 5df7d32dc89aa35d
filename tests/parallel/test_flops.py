"""Operations counted on a jaxpr, compared with counts by hand and with `cost_analysis` where that is right."""

import jax
import jax.numpy as jnp
import pytest
from jax.experimental import pallas as pl
from jax.experimental.custom_partitioning import custom_partitioning
from jax.sharding import PartitionSpec as P

from codi_jax.codi import CoDi
from codi_jax.parallel import MeshConfig, make_mesh
from codi_jax.parallel.flops import count, read_inputs
from codi_jax.types import Tokens
from tests import toy

X, W = jnp.ones((8, 16)), jnp.ones((16, 16))
PRODUCT = 2 * 8 * 16 * 16  # of x @ w


def total(function, *arguments):
    flops = count(jax.make_jaxpr(function)(*arguments))
    assert flops.unknown_loops == ()
    return flops.total


def test_products_are_counted():
    assert total(lambda x, w: x @ w, X, W) == PRODUCT
    # [3, 8, 16] · [3, 16, 5] over a batch of 3
    assert total(lambda a, b: jnp.einsum("bij,bjk->bik", a, b), jnp.ones((3, 8, 16)), jnp.ones((3, 16, 5))) == (
        2 * 3 * 8 * 5 * 16
    )
    # Two products forward; backward two for w and one for the intermediate value.
    assert total(jax.value_and_grad(lambda w, x: (x @ w @ w).sum()), W, X) == (2 + 3) * PRODUCT


def on_unit(function, edge, *arguments, most=float("inf")):
    return count(jax.make_jaxpr(function)(*arguments)).on_unit(edge, most)


def test_a_matrix_unit_is_used_in_part_by_narrow_products():
    """By hand, for units of edge 4: whole tiles, and at least four rows for each."""
    a = lambda *shape: jnp.ones(shape)  # noqa: E731
    assert on_unit(jnp.matmul, 4, a(8, 4), a(4, 4)) == 2 * 8 * 4 * 4
    assert on_unit(jnp.matmul, 4, a(8, 1), a(1, 8)) == 2 * 8 * 4 * 8  # one of four rows of a tile
    assert on_unit(jnp.matmul, 4, a(8, 8), a(8, 1)) == 2 * 8 * 8 * 4  # one of four columns
    assert on_unit(jnp.matmul, 4, a(5, 4), a(4, 8)) == 2 * 5 * 4 * 8  # five rows for each of two tiles
    assert on_unit(jnp.matmul, 4, a(2, 4), a(4, 4)) == 2 * 4 * 4 * 4  # a tile takes as long as four rows
    # The elements of a batch are products of their own, also in a scan.
    pair = lambda x, y: jnp.einsum("bik,bjk->bij", x, y)  # noqa: E731
    assert on_unit(pair, 4, a(3, 8, 1), a(3, 8, 1)) == 3 * 2 * 8 * 4 * 8
    assert on_unit(lambda x: jax.lax.scan(lambda c, _: (c @ c, None), x, length=5)[0], 4, a(3, 3)) == 5 * 2 * 4**3

    # 2 · 4 · 4 positions, patches of 3 · 3 · 3 = 27 numbers, which take 28 rows of tiles, and 5 features.
    def valid(x, kernel):
        return convolution(x, kernel, padding="VALID", window_strides=(1, 1))

    assert on_unit(valid, 4, a(2, 6, 6, 3), a(3, 3, 3, 5)) == pytest.approx(2 * 32 * 28 * 5)
    # A Pallas kernel is the products of its blocks: [2, 16] · [16, 8].
    assert on_unit(kernel, 4, X, W) == 4 * 2 * (2 * 4 * 16 * 8)
    assert on_unit(kernel, 8, X, W) == 4 * 2 * (2 * 8 * 16 * 8)
    assert on_unit(jnp.matmul, 1, X, W) == PRODUCT
    # The vector unit computes what would take a matrix unit more than `most` times the operations: 64 times here.
    dots = lambda x: jnp.einsum("ij,ij->i", x, x)  # noqa: E731
    assert [on_unit(dots, 4, a(5, 1), most=most) for most in (100, 32)] == [64 * 2 * 5, 32 * 2 * 5]


def test_dead_code_is_not_counted():
    def with_dead_code(x, w, v):
        loss = lambda w: ((x @ w).sum(), jax.jit(jnp.matmul)(x, v))  # noqa: E731
        return jax.grad(loss, has_aux=True)(w)[0]

    program = jax.make_jaxpr(with_dead_code)(X, W, W)
    assert count(program).total == PRODUCT  # of the gradient: neither the loss nor x @ v is returned
    assert read_inputs(program) == [True, False, False]


def convolution(x, kernel, **options):
    return jax.lax.conv_general_dilated(x, kernel, dimension_numbers=("NHWC", "HWIO", "NHWC"), **options)


@pytest.mark.parametrize(
    ("x", "kernel", "options", "expected"),
    [
        # All nine taps read an input element at each of 4 × 4 positions.
        ((2, 6, 6, 3), (3, 3, 3, 5), {"padding": "VALID"}, 2 * 2 * 5 * 3 * (4 * 3) ** 2),
        # With padding, along a side of 6: two taps at each end, three at the four positions in between.
        ((2, 6, 6, 3), (3, 3, 3, 5), {"padding": "SAME"}, 2 * 2 * 5 * 3 * (2 * 2 + 4 * 3) ** 2),
        # A kernel of 1 × 1 at every second position.
        ((2, 6, 6, 4), (1, 1, 4, 5), {"padding": "VALID", "window_strides": (2, 2)}, 2 * 2 * 5 * 4 * 3**2),
        # Two groups: each feature sums over half of the channels.
        ((2, 6, 6, 4), (3, 3, 2, 6), {"padding": "VALID", "feature_group_count": 2}, 2 * 2 * 6 * 2 * (4 * 3) ** 2),
        # With rhs_dilation = 2 there are two positions per side.
        ((1, 6, 6, 1), (3, 3, 1, 1), {"padding": "VALID", "rhs_dilation": (2, 2)}, 2 * (2 * 3) ** 2),
        # Three elements with holes between them, two taps: at each of four positions one tap reads an element.
        ((1, 3, 3, 1), (2, 2, 1, 1), {"padding": ((0, 0), (0, 0)), "lhs_dilation": (2, 2)}, 2 * 4**2),
    ],
)
def test_convolutions_count_taps_that_read_an_input_element(x, kernel, options, expected):
    options = {"window_strides": (1, 1), **options}
    assert total(lambda a, b: convolution(a, b, **options), jnp.ones(x), jnp.ones(kernel)) == expected


def test_the_gradient_of_a_strided_convolution_is_twice_itself():
    x, kernel = jnp.ones((2, 8, 8, 3)), jnp.ones((3, 3, 3, 4))

    def function(x, kernel):
        return convolution(x, kernel, window_strides=(2, 2), padding="SAME").sum()

    assert total(jax.value_and_grad(function, (0, 1)), x, kernel) == 3 * total(function, x, kernel)


def test_loop_bodies_count_once_per_iteration():
    def scanned(x, w):
        return jax.lax.scan(lambda x, _: (x @ w, None), x, length=7)[0]

    assert total(scanned, X, W) == 7 * PRODUCT
    assert total(jax.value_and_grad(lambda w, x: scanned(x, w).sum()), W, X) == 3 * 7 * PRODUCT
    nested = lambda x, w: jax.lax.scan(lambda x, _: (scanned(x, w), None), x, length=3)[0]  # noqa: E731
    assert total(nested, X, W) == 21 * PRODUCT

    def counted(x, w):  # 1, 3, 5
        return jax.lax.while_loop(lambda c: c[0] < 7, lambda c: (c[0] + 2, c[1] @ w), (1, x))

    assert total(counted, X, W) == 3 * PRODUCT


def test_a_loop_with_unknown_trip_count_is_named():
    def until(x, w, n):
        return jax.lax.fori_loop(0, n, lambda i, x: x @ w, x)

    flops = count(jax.make_jaxpr(until)(X, W, 3))
    assert flops.total == PRODUCT
    (loop,) = flops.unknown_loops
    assert "test_flops.py" in loop

    def without_products(x, n):
        return jax.lax.fori_loop(0, n, lambda i, x: x + 1, x)

    assert total(without_products, X, 3) == 0


def test_branches_jit_custom_derivatives_and_remat():
    def branches(x, w):
        return jax.lax.cond(x[0, 0] > 0, lambda x: x @ w @ w, lambda x: x @ w, x)

    assert total(branches, X, W) == 2 * PRODUCT
    assert total(jax.jit(lambda x, w: jax.jit(jnp.matmul)(x, w)), X, W) == PRODUCT

    @jax.custom_vjp
    def twice(x, w):
        return x @ w

    twice.defvjp(lambda x, w: (x @ w, (x, w)), lambda saved, g: (g @ saved[1].T, saved[0].T @ g))
    assert total(lambda x, w: twice(x, w), X, W) == PRODUCT
    assert total(jax.value_and_grad(lambda x, w: twice(x, w).sum(), (0, 1)), X, W) == 3 * PRODUCT

    # Recomputation is counted: two products more.
    deep = lambda w, x: jax.checkpoint(lambda x: jnp.tanh(jnp.tanh(x @ w) @ w))(x).sum()  # noqa: E731
    plain = lambda w, x: jnp.tanh(jnp.tanh(x @ w) @ w).sum()  # noqa: E731
    assert total(jax.value_and_grad(deep), W, X) - total(jax.value_and_grad(plain), W, X) == pytest.approx(2 * PRODUCT)


def test_shard_map_counts_every_shard():
    mesh = make_mesh(MeshConfig(fsdp=1))
    split = jax.shard_map(lambda x, w: x @ w, mesh=mesh, in_specs=(P("data"), P()), out_specs=P("data"))
    assert total(split, X, W) == PRODUCT


def kernel(x, w, **options):
    """x @ w in 4 × 2 blocks, those of the first row left out when it runs."""

    def block(x, w, out):
        @pl.when(pl.program_id(0) > 0)
        def _():
            out[...] = x[...] @ w[...]

    return pl.pallas_call(
        block,
        grid=(4, 2),
        in_specs=[pl.BlockSpec((2, 16), lambda i, j: (i, 0)), pl.BlockSpec((16, 8), lambda i, j: (0, j))],
        out_specs=pl.BlockSpec((2, 8), lambda i, j: (i, j)),
        out_shape=jax.ShapeDtypeStruct((8, 16), jnp.float32),
        interpret=True,
        **options,
    )(x, w)


def test_pallas_kernels_count_every_grid_point_or_by_their_estimate():
    assert total(kernel, X, W) == PRODUCT
    estimate = pl.CostEstimate(flops=123, transcendentals=0, bytes_accessed=0)
    assert total(lambda x, w: kernel(x, w, cost_estimate=estimate), X, W) == 123
    only_bytes = pl.CostEstimate(flops=0, transcendentals=0, bytes_accessed=1024)
    assert total(lambda x, w: kernel(x, w, cost_estimate=only_bytes), X, W) == PRODUCT
    batched = jax.vmap(kernel, in_axes=(0, None))
    assert total(batched, jnp.ones((3, 8, 16)), W) == 3 * PRODUCT


def test_a_grid_that_is_known_only_when_it_runs_is_named():
    def rows(n, x, w):
        def block(x, w, out):
            out[...] = x[...] @ w[...]

        whole = pl.BlockSpec((16, 16), lambda i: (0, 0))
        row = pl.BlockSpec((2, 16), lambda i: (i, 0))
        shape = jax.ShapeDtypeStruct((8, 16), jnp.float32)
        return pl.pallas_call(block, grid=(n,), in_specs=[row, whole], out_specs=row, out_shape=shape, interpret=True)(
            x, w
        )

    flops = count(jax.make_jaxpr(rows)(4, X, W))
    assert flops.total == PRODUCT / 4
    (grid,) = flops.unknown_loops
    assert grid.startswith("grid of a Pallas kernel at ") and "test_flops.py" in grid


def test_kernels_in_shard_map_and_custom_derivatives():
    mesh = make_mesh(MeshConfig(fsdp=1))

    @jax.custom_vjp
    def product(x, w):
        return kernel(x, w)

    product.defvjp(lambda x, w: (kernel(x, w), (x, w)), lambda saved, g: (g @ saved[1].T, saved[0].T @ g))
    split = jax.shard_map(product, mesh=mesh, in_specs=P(), out_specs=P(), check_vma=False)
    assert total(split, X, W) == 8 * PRODUCT
    assert total(jax.grad(lambda w, x: split(x, w).sum()), W, X) == 8 * PRODUCT  # of w alone; the rest is dead

    @custom_partitioning
    def partitioned(x, w):
        return x @ w

    partitioned.def_partition(
        infer_sharding_from_operands=lambda *a: None, partition=lambda *a: None, sharding_rule="i j, j k -> i k"
    )
    assert total(partitioned, X, W) == PRODUCT


def test_attention_of_cudnn_is_counted_by_its_shapes(monkeypatch):
    """Traced as on a GPU with cuDNN."""
    cudnn = "jax._src.cudnn.fused_attention_stablehlo"
    monkeypatch.setattr(f"{cudnn}.check_cudnn_version", lambda: 91200)
    monkeypatch.setattr(f"{cudnn}.check_compute_capability", lambda capability: True)
    q, k = jnp.ones((2, 32, 4, 16), jnp.bfloat16), jnp.ones((2, 8, 4, 16), jnp.bfloat16)

    def attention(q, k, v):
        return jax.nn.dot_product_attention(q, k, v, implementation="cudnn").astype(jnp.float32).sum()

    product = 2 * (2 * 4 * 32 * 8) * 16  # of scores, or of weights and values
    assert total(attention, q, k, k) == 2 * product
    assert total(jax.value_and_grad(attention, (0, 1, 2)), q, k, k) == (2 + 5) * product
    assert total(jax.vmap(attention), *(jnp.stack([x] * 3) for x in (q, k, k))) == 3 * 2 * product


def test_the_count_of_a_denoiser_agrees_with_cost_analysis():
    """`cost_analysis` includes elementwise operations, so it is a little higher, never lower."""
    tree = toy.model()
    tree["modalities"]["image"]["denoiser"]["channels"] = 128  # so that products are most of the work
    modality = CoDi.from_config(tree)["image"]
    params = jax.eval_shape(lambda: {"unet": modality.init("denoiser", jax.random.key(0))})
    z = jax.ShapeDtypeStruct((2, *modality.latent_shape), jnp.float32)

    def loss(params, z):
        context = Tokens.of(jnp.zeros((2, 1, modality.dims.width)))
        return modality.denoiser.apply({"params": params}, z, jnp.zeros((2,), jnp.int32), context).sum()

    traced = jax.jit(jax.value_and_grad(loss)).trace(params, z)
    theirs = traced.lower().cost_analysis()["flops"]
    assert 0.9 * theirs < count(traced.jaxpr).total <= theirs
