"""What is largest: groups of instructions by hand, and of a real program."""

import jax
import jax.numpy as jnp
import pytest

from codi_jax.parallel.chips import Chip
from codi_jax.parallel.flops import count
from codi_jax.plan import largest
from tests.hlo_text import fusion, lines, program


@pytest.mark.parametrize(
    ("op_name", "group"),
    [
        ("jit(step)/transpose(jvp(Denoiser))/unet/inputs_1/attend/self/exp", "attend/self/exp"),
        ("jit(step)/jvp(Denoiser)/unet/middle/attend/self/exp", "attend/self/exp"),
        ("jit(step)/jvp(Denoiser)/unet/inputs_12/residual_0/dot_general", "inputs/residual/dot_general"),
        ("jit(step)/while/body/closed_call/checkpoint/layer_norm/jit(silu)/mul", "layer_norm/silu/mul"),
        ("jit(step)/optimizer/add", "optimizer/add"),
        ("jit(step)/conv.3/add", "conv/add"),
        ("state.opt_state[1].mu['unet']['middle']", "state.opt_state"),
        ("", ""),
    ],
)
def test_layers_of_one_kind_are_one_group(op_name, group):
    assert largest.group_name(op_name) == group


def named(op_name):
    return f', metadata={{op_name="{op_name}"}}'


def test_memory_traffic_by_group():
    softmax = "jit(step)/jvp(unet)/inputs_{}/self/exp"
    read = program(
        lines(
            "%s = f32[8,64]{1,0} sine(%x)" + named(softmax.format(0)),
            # A fusion without a name has that of its last operation.
            "%f = f32[8,64]{1,0} fusion(%s), kind=kLoop, calls=%body",
            # What is moved to the chip is a part of the parameters.
            f"%p = f32[128,64]{{1,0}} parameter(1){named('state.params[0]')}",
            "%b = f32[128,64]{1,0} bitcast(%p)",
            "%c = ((f32[128,64]{1,0}), f32[64,64]{1,0:S(1)}, s32[]{:S(2)}) slice-start(%b), slice={[0:64], [0:64]}",
            "%k = s32[] copy(%i)",
            "%i = s32[] constant(0)",
            "ROOT %z = f32[4]{0} iota(), iota_dimension=0",
        ),
        before=fusion("body", "ROOT %r = f32[8,64]{1,0} exponential(%y)" + named(softmax.format(1))),
    )
    assert largest.memory(program=read) == [
        {"what": "state.params", "array": "f32[64,64]", "count": 1, "bytes": 64 * 64 * 4},
        {"what": "inputs/self/exp", "array": "f32[8,64]", "count": 2, "bytes": 4 * 2048},
        {"what": "iota", "array": "f32[4]", "count": 1, "bytes": 16},
    ]


def test_collectives_by_kind_and_shape():
    groups = "replica_groups=[2,4]<=[8]"
    read = program(
        lines(
            *(f"%r{i} = f32[8,64]{{1,0}} all-reduce(%x), {groups}, to_apply=%add" for i in range(2)),
            f"%g = f32[32,64]{{1,0}} all-gather(%x), {groups}, dimensions={{0}}",
            "%p = f32[8,64]{1,0} collective-permute(%x), source_target_pairs={{0,1}}",
            "ROOT %q = f32[8,64]{1,0} collective-permute(%x), source_target_pairs={{1,0}}",
        )
    )
    assert largest.interconnect(read) == [
        {"what": "all-reduce", "array": "f32[8,64]", "count": 2, "bytes": 2 * 2 * 2048 * 3 / 4},
        {"what": "all-gather", "array": "f32[32,64]", "count": 1, "bytes": 4 * 2048 * 3 / 4},
        {"what": "collective-permute", "array": "f32[8,64]", "count": 2, "bytes": 2048},
    ]


def test_products_by_group():
    """Three layers of a scan in one module, and one product in another."""

    def step(x, w):
        def layer(x, _):
            with jax.named_scope("layer_3"):
                return x @ w, None

        with jax.named_scope("tower"):
            x = jax.lax.scan(layer, x, length=3)[0]
        with jax.named_scope("head"):
            return jax.jit(jnp.dot)(x, w[:, :2])

    flops = count(jax.make_jaxpr(step)(jnp.ones((8, 16)), jnp.ones((16, 16))))
    product = 2 * 8 * 16 * 16
    assert largest.compute(flops, None) == [
        {"what": "tower/layer/dot_general", "array": "float32[8,16]", "count": 3, "flops": 3 * product},
        {"what": "head/dot_general", "array": "float32[8,2]", "count": 1, "flops": product / 8},
    ]
    # On units of edge 16 eight rows take as long as sixteen, and two columns as long as sixteen.
    assert [group["flops"] for group in largest.compute(flops, Chip(1e12, 1.0, 1.0, 1.0, 16))] == [
        2 * 3 * product,
        2 * product,
    ]
    assert [(group["what"], group["bytes"]) for group in largest.results(flops, 4)] == [
        ("tower/layer/dot_general", 3 * 8 * 16 * 4 / 4),
        ("head/dot_general", 8 * 2 * 4 / 4),
    ]
