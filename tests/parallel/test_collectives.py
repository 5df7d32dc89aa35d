"""HLO parsing: collectives, loops, and every notation for replica groups."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

from codi_jax.parallel import MeshConfig, make_mesh
from codi_jax.parallel.collectives import Traffic, collectives
from codi_jax.parallel.hlo import Array, Program, arrays
from codi_jax.parallel.traffic import memory_traffic
from tests import hlo_text
from tests.hlo_text import fusion, program


def sent(*lines, **options):
    return collectives(program(hlo_text.lines(*lines), **options))


def test_array_types_are_parsed():
    assert arrays("f32[8,256]{1,0:T(8,128)S(1)}") == (Array("f32", (8, 256), 1, padded=(8, 256)),)
    nested = arrays("((bf16[2,3]{1,0}), /*index=1*/pred[], (s32[]{:T(128)}, f8e4m3fn[5]{0}, token[]))")
    assert [(a.dtype, a.bytes) for a in nested] == [
        ("bf16", 12),
        ("pred", 1),
        ("s32", 4),
        ("f8e4m3fn", 5),
        ("token", 0),
    ]
    assert arrays("s4[5]{0}")[0].bytes == 3


@pytest.mark.parametrize(
    ("kind", "stored"),
    [
        ("f32[16,77]{1,0:T(8,128)}", 16 * 128 * 4),
        ("bf16[3,77,16]{1,2,0:T(8,128)(2,1)}", 3 * 128 * 16 * 2),  # dimension 1 is the minor one
        ("bf16[5,3,64]{2,0,1:T(8,128)(2,1)S(1)}", 8 * 3 * 128 * 2),
        ("f32[300]{0:T(256)}", 512 * 4),
        ("f32[]{:T(128)}", 4),
        ("f32[16,77]{1,0}", 16 * 77 * 4),
    ],
)
def test_arrays_are_stored_in_whole_tiles(kind, stored):
    assert arrays(kind)[0].stored == stored


def test_attributes_of_several_lines_do_not_end_a_computation():
    """Those of a Pallas kernel with metadata do, and its last line starts with the brace that ends a computation."""
    read = program(
        '  %k = f32[8,64]{1,0} custom-call(%x), custom_call_target="tpu_custom_call", '
        'frontend_attributes={kernel_metadata={\n"block":"{\\"q\\": 128}"\n}}, metadata={op_name="self/kernel"}\n'
        "  ROOT %r = f32[8,64]{1,0} all-reduce(%k), replica_groups=[2,4]<=[8], to_apply=%add"
    )
    assert read.computations["main"]["k"].op_name == "self/kernel"
    assert collectives(read)["all-reduce"].count == 1


@pytest.mark.parametrize(
    ("groups", "size"),
    [
        ("{{0,1,2,3},{4,5,6,7}}", 4),
        ("[4,2]<=[8]", 2),
        ("[2,4]<=[4,2]T(1,0)", 4),
        ("mesh['axis_0'=4,'axis_1'=1,'axis_2'=2], device_ids=([2,4]T(1,0)) {'axis_0'}", 4),
        ("mesh['axis_0'=4,'axis_1'=2] {'axis_0','axis_1'}", 8),
        ("mesh['axis_0'=8] {'axis_0':(2)4}", 4),
        ("{}", 8),
    ],
)
def test_the_group_size_is_read_from_every_notation(groups, size):
    got = sent(f"ROOT %r = f32[8,64]{{1,0}} all-reduce(%x), replica_groups={groups}, to_apply=%add")
    assert got == {"all-reduce": Traffic(1, 2048, pytest.approx(2 * 2048 * (size - 1) / size))}


def test_a_group_of_one_sends_nothing():
    assert sent("ROOT %r = f32[8,64]{1,0} all-reduce(%x), replica_groups=[8,1]<=[8], to_apply=%add") == {}
    assert sent("ROOT %r = f32[8,64]{1,0} all-reduce(%x), replica_groups={}, to_apply=%add", devices=1) == {}


def test_every_kind_of_collective_is_counted():
    assert sent(
        "%g = f32[32,64]{1,0} all-gather(%x), replica_groups=[2,4]<=[8], dimensions={0}",
        "%s = f32[2,64]{1,0} reduce-scatter(%x), replica_groups=[2,4]<=[8], dimensions={0}, to_apply=%add",
        "%t = (f32[4,64]{1,0}, f32[4,64]{1,0}) all-to-all(%h, %i), replica_groups={{0,1},{2,3},{4,5},{6,7}}",
        "ROOT %p = f32[8,64]{1,0} collective-permute(%x), source_target_pairs={{0,1},{1,0}}",
    ) == {
        "all-gather": Traffic(1, 4 * 2048, 3 * 2048),
        "reduce-scatter": Traffic(1, 2048, 2048 * 3 / 4),
        "all-to-all": Traffic(1, 2048, 1024),
        "collective-permute": Traffic(1, 2048, 2048),
    }


def test_of_permutes_the_device_counts_that_receives_most():
    permutes = ["{{0,1},{1,2}}", "{{3,1}}", "{{1,3}}", "{{2,2}}"]  # the last one sends nothing
    got = sent(
        *(f"%p{i} = f32[8,64]{{1,0}} collective-permute(%x), source_target_pairs={p}" for i, p in enumerate(permutes))
    )
    assert got == {"collective-permute": Traffic(3, 3 * 2048, 2 * 2048)}


def test_asynchronous_collectives_count_once():
    groups = "replica_groups=[2,4]<=[8]"
    got = sent(
        f"%g = (f32[8,64]{{1,0}}, f32[32,64]{{1,0}}) all-gather-start(%x), {groups}, dimensions={{0}}",
        "%gd = f32[32,64]{1,0} all-gather-done(%g)",
        f"%r = f32[8,64]{{1,0}} all-reduce-start(%x), {groups}, to_apply=%add",
        "%rd = f32[8,64]{1,0} all-reduce-done(%r)",
        "%p = (f32[8,64]{1,0}, f32[8,64]{1,0}, u32[], u32[]) collective-permute-start(%x), "
        "source_target_pairs={{0,1},{1,0}}",
        "%pd = f32[8,64]{1,0} collective-permute-done(%p)",
        "%s = ((f32[8,64]{1,0}), f32[2,64]{1,0}) async-start(%x), calls=%scatter",
        "%su = ((f32[8,64]{1,0}), f32[2,64]{1,0}) async-update(%s), calls=%scatter",
        "%sd = f32[2,64]{1,0} async-done(%su), calls=%scatter",
        f"%t = ((f32[8,64]{{1,0}}), f32[8,64]{{1,0}}, u32[]) all-to-all-start(%x), {groups}, dimensions={{0}}",
        "ROOT %td = f32[8,64]{1,0} all-to-all-done(%t)",
        before="%scatter (y: f32[8,64]) -> f32[2,64] {\n  %y = f32[8,64]{1,0} parameter(0)\n"
        f"  ROOT %z = f32[2,64]{{1,0}} reduce-scatter(%y), {groups}, dimensions={{0}}, to_apply=%add\n}}\n",
    )
    assert {kind: (t.count, t.bytes) for kind, t in got.items()} == {
        "all-gather": (1, 4 * 2048),
        "all-reduce": (1, 2048),
        "reduce-scatter": (1, 2048),
        "all-to-all": (1, 2048),
        "collective-permute": (1, 2048),
    }


def test_pieces_of_one_tpu_collective_count_once():
    piece = (
        "%g = f32[32,64]{1,0} all-gather(%y), channel_id=7, replica_groups=[2,4]<=[8], dimensions={0}, "
        'frontend_attributes={chain_id="0"}'
    )
    got = sent(
        "%s = f32[32,64]{1,0} fusion(%x), kind=kCustom, calls=%opens",
        "%m = f32[32,64]{1,0} fusion(%x), kind=kCustom, calls=%goes_on",
        "ROOT %d = f32[32,64]{1,0} fusion(%x), kind=kCustom, calls=%closes",
        before=fusion("opens", piece, 'ROOT %c = f32[] custom-call(%g), custom_call_target="AsyncCollectiveStart"')
        + fusion("goes_on", f"ROOT {piece}")
        + fusion("closes", piece, 'ROOT %c = f32[] custom-call(%g), custom_call_target="AsyncCollectiveDone"'),
    )
    assert got == {"all-gather": Traffic(1, 4 * 2048, 3 * 2048)}


def test_an_all_reduce_that_is_sliced_counts_as_reduce_scatter():
    reduce = "%r = f32[8,64]{1,0} all-reduce(%y), replica_groups=[2,4]<=[8], to_apply=%add"
    got = sent(
        "ROOT %s = f32[2,64]{1,0} fusion(%x), kind=kCustom, calls=%all-reduce-scatter",
        before=fusion("all-reduce-scatter", reduce, "ROOT %k = f32[2,64]{1,0} dynamic-slice(%r, %i, %j)"),
    )
    assert got == {"reduce-scatter": Traffic(1, 2048, 2048 * 3 / 4)}


LOOP = """%body (p: (s32[], f32[8,64])) -> (s32[], f32[8,64]) {
  %p = (s32[], f32[8,64]{1,0}) parameter(0)
  %i = s32[] get-tuple-element(%p), index=0
  %copied = s32[] copy(%i)
  %two = s32[] constant(2)
  %next = s32[] add(%copied, %two)
  %y = f32[8,64]{1,0} get-tuple-element(%p), index=1
  %r = f32[8,64]{1,0} all-reduce(%y), replica_groups=[2,4]<=[8], to_apply=%add
  ROOT %out = (s32[], f32[8,64]{1,0}) tuple(%next, %r)
}
%condition (q: (s32[], f32[8,64])) -> pred[] {
  %q = (s32[], f32[8,64]{1,0}) parameter(0)
  %n = s32[] constant(8)
  %j = s32[] get-tuple-element(%q), index=0
  ROOT %less = pred[] compare(%j, %n), direction=LT
}
"""


@pytest.mark.parametrize(
    ("start", "note", "count", "unknown"),
    [
        ("constant(1)", "", 4, ()),  # 1, 3, 5, 7: derived from the loop; the TPU compiler annotates no trip count
        ("constant(1)", ', backend_config={"known_trip_count":{"n":"5"}}', 5, ()),
        ("custom-call()", "", 1, ("w",)),
    ],
)
def test_loop_bodies_count_once_per_iteration(start, note, count, unknown):
    lines = (
        f"  %zero = s32[] {start}\n  %t = (s32[], f32[8,64]{{1,0}}) tuple(%zero, %x)\n"
        f"  %w = (s32[], f32[8,64]{{1,0}}) while(%t), condition=%condition, body=%body{note}\n"
        "  ROOT %e = f32[8,64]{1,0} get-tuple-element(%w), index=1"
    )
    read = program(lines, LOOP)
    assert collectives(read) == {"all-reduce": Traffic(count, count * 2048, count * 2 * 2048 * 3 / 4)}
    assert read.unknown_loops() == unknown


def test_text_that_is_not_a_program_is_refused():
    with pytest.raises(ValueError, match="no ENTRY computation"):
        Program("HloModule empty")


@pytest.fixture(scope="module")
def compiled():
    """The gradient of six layers, scanned and unrolled, on a mesh of fsdp = 4, data = 2."""
    mesh = make_mesh(MeshConfig(data=2, fsdp=4))

    def loss(layers, x, unroll):
        return (jax.lax.scan(lambda x, w: (jnp.tanh(x @ w), None), x, layers, unroll=unroll)[0] ** 2).mean()

    layers = jax.ShapeDtypeStruct((6, 64, 64), jnp.float32, sharding=NamedSharding(mesh, P(None, "fsdp")))
    x = jax.ShapeDtypeStruct((64, 64), jnp.float32, sharding=NamedSharding(mesh, P(("data", "fsdp"))))
    gradient = jax.jit(jax.grad(loss), static_argnums=2, out_shardings=layers.sharding)
    return [gradient.lower(layers, x, unroll).compile() for unroll in (1, 6)]


def test_collectives_of_a_compiled_fsdp_program(compiled):
    scanned = collectives(Program(compiled[0].as_text()))
    weights = 64 * 64 * 4
    # The weights of each layer are gathered in the forward and the backward pass; its gradient is reduced.
    assert (scanned["all-gather"].count, scanned["all-gather"].bytes) == (12, 12 * weights)
    summed = scanned.get("all-reduce", Traffic()), scanned.get("reduce-scatter", Traffic())
    assert sum(t.count for t in summed) >= 6
    assert sum(t.bytes for t in summed) >= 6 * weights
    assert Program(compiled[0].as_text()).unknown_loops() == ()


def test_memory_traffic_without_loops_agrees_with_cost_analysis(compiled):
    scanned, unrolled = (memory_traffic(Program(c.as_text())) for c in compiled)
    theirs = [c.cost_analysis()["bytes accessed"] for c in compiled]
    assert unrolled == pytest.approx(theirs[1], rel=0.1)
    assert theirs[0] < 0.5 * theirs[1]  # it counts a loop body once
    np.testing.assert_allclose(scanned, unrolled, rtol=0.5)
