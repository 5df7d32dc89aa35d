"""Memory traffic of short HLO programs, by hand. f32[8,64] is 2048 bytes, S(1) on the chip, S(5) the host's memory."""

import pytest

from codi_jax.parallel.collectives import collectives
from codi_jax.parallel.traffic import HOST, memory_traffic, traffic_by_instruction
from tests.hlo_text import computation, fusion, lines, program

WHOLE = 8 * 64 * 4
ROW = 64 * 4


def traffic(*text, before="", space=0):
    return memory_traffic(program(lines(*text), before=before), space)


def test_memory_traffic_of_fusions_and_slices():
    body = (
        "%y = f32[8,64]{1,0} parameter(0)\n  %k = s32[] parameter(1)\n  %z = f32[2,64]{1,0} parameter(2)\n"
        "  %part = f32[2,64]{1,0} dynamic-slice(%y, %k, %k)\n  %s = f32[2,64]{1,0} add(%part, %z)\n"
        "  ROOT %u = f32[8,64]{1,0} dynamic-update-slice(%y, %s, %k, %k)"
    )
    read = program(
        "  %k = s32[] constant(0)\n  %small = f32[2,64]{1,0} slice(%x)\n"  # 2 × 512
        "  %chip = f32[8,64]{1,0:S(1)} copy(%x)\n"  # reads 2048, writes to the chip
        "  %sine = f32[8,64]{1,0} sine(%chip)\n"  # writes 2048
        "  ROOT %f = f32[8,64]{1,0} fusion(%sine, %k, %small), kind=kLoop, calls=%inside",
        before=f"%inside (y: f32[8,64], k: s32[], z: f32[2,64]) -> f32[8,64] {{\n  {body}\n}}\n",
    )
    # The fusion reads its slice of 512, the number k and z (512), and writes 512.
    assert memory_traffic(read) == 2 * 512 + 2048 + 2048 + (512 + 4 + 512 + 512)


def test_a_slice_reads_only_the_slice():
    # An asynchronous slice to the chip, and one that stays in memory; what is done with it on the chip is not counted.
    assert traffic(
        "%s = ((f32[8,64]{1,0}), f32[2,64]{1,0:S(1)}, s32[]{:S(2)}) slice-start(%x), slice={[0:2], [0:64]}",
        "%d = f32[2,64]{1,0:S(1)} slice-done(%s)",
        "%t = ((f32[8,64]{1,0}), f32[3,64]{1,0}, s32[]{:S(2)}) slice-start(%x), slice={[0:3], [0:64]}",
        "%e = f32[3,64]{1,0} slice-done(%t)",
        "%k = s32[]{:S(6)} constant(0)",
        "%v = f32[1,64]{1,0:S(1)} dynamic-slice(%x, %k, %k), dynamic_slice_sizes={1,64}",
        'ROOT %c = f32[4,64]{1,0:S(1)} custom-call(%d, %d), custom_call_target="ConcatBitcast"',
    ) == (2 * ROW + 2 * 3 * ROW + ROW)


def test_a_gather_reads_its_rows_and_a_scatter_updates_them():
    assert traffic(
        "%i = s32[3]{0} parameter(1)",
        "%g = f32[3,64]{1,0} gather(%x, %i), slice_sizes={1,64}",
        "ROOT %s = f32[8,64]{1,0} scatter(%x, %i, %g), to_apply=%add",
    ) == (12 + 2 * 3 * ROW) + (12 + 3 * 3 * ROW)


def test_copies_count_on_the_sides_that_are_in_memory():
    text = (
        "%a = (f32[8,64]{1,0:S(1)}, f32[8,64]{1,0}, u32[]{:S(2)}) copy-start(%x)",  # to the chip
        "%b = f32[8,64]{1,0:S(1)} copy-done(%a)",
        "%c = (f32[8,64]{1,0}, f32[8,64]{1,0:S(1)}, u32[]{:S(2)}) copy-start(%b)",  # back
        "%d = f32[8,64]{1,0} copy-done(%c)",
        "%e = (f32[8,64]{1,0:S(5)}, f32[8,64]{1,0}, u32[]{:S(2)}) copy-start(%d)",  # to the host
        "%f = f32[8,64]{1,0:S(5)} copy-done(%e)",
        "ROOT %g = f32[8,64]{1,0} copy(%d)",
    )
    assert traffic(*text) == 5 * WHOLE
    assert traffic(*text, space=HOST) == WHOLE


def test_part_of_a_buffer_of_the_host():
    """A dynamic slice, which takes its offset as another operand, and the update of a buffer on the host."""
    text = (
        "%k = s32[]{:S(6)} constant(0)",
        "%h = f32[8,64]{1,0:S(5)} parameter(1)",
        "%s = ((f32[8,64]{1,0:S(5)}, s32[]), f32[2,64]{1,0}, u32[]{:S(2)}) dynamic-slice-start(%h, %k)",
        "%d = f32[2,64]{1,0} dynamic-slice-done(%s)",
        "ROOT %u = f32[8,64]{1,0:S(5)} dynamic-update-slice(%h, %d, %k, %k)",
    )
    assert traffic(*text) == 2 * ROW + 2 * ROW
    assert traffic(*text, space=HOST) == 2 * ROW + 2 * ROW


def test_computations_of_the_host_are_left_out():
    read = program(
        lines(
            "%s = ((f32[8,64]{1,0:S(5)}), f32[8,64]{1,0:S(5)}, u32[]) custom-call-start(%x), "
            'async_execution_thread="host", custom_call_target="HostExecute", called_computations={%there}',
            "ROOT %d = f32[8,64]{1,0:S(5)} custom-call-done(%s)",
        ),
        before="%there (y: f32[8,64]) -> f32[8,64] {\n  %y = f32[8,64]{1,0} parameter(0)\n"
        '  ROOT %z = f32[8,64]{1,0} sine(%y)\n}, execution_thread="host"\n',
    )
    assert read.host_calls() == ("s",)
    assert memory_traffic(read) == WHOLE  # of %x


def test_padding_is_read_and_written():
    assert traffic(
        "%y = bf16[4,77]{1,0:T(8,128)(2,1)} parameter(1)",
        "ROOT %z = f32[4,77]{1,0:T(8,128)} convert(%y)",
    ) == 8 * 128 * (2 + 4)


def test_kernels_and_collectives_read_their_operands_once_and_write_their_results():
    assert (
        traffic(
            '%k = (f32[8,64]{1,0}, f32[8]{0}) custom-call(%x, %x), custom_call_target="tpu_custom_call"',
            "%g = f32[32,64]{1,0} all-gather(%x), replica_groups=[2,4]<=[8], dimensions={0}",
            "%p = (f32[8,64]{1,0}, f32[8,64]{1,0}, u32[], u32[]) collective-permute-start(%x), "
            "source_target_pairs={{0,1},{1,0}}",
            "%pd = f32[8,64]{1,0} collective-permute-done(%p)",
            'ROOT %b = f32[8,64]{1,0} custom-call(), custom_call_target="AllocateBuffer"',
        )
        == (2 * WHOLE + 32) + 5 * WHOLE + 2 * WHOLE
    )


def test_the_body_of_an_asynchronous_operation_counts_once():
    assert (
        traffic(
            "%s = ((f32[8,64]{1,0}), f32[8,64]{1,0}) async-start(%x), calls=%sine",
            "%u = ((f32[8,64]{1,0}), f32[8,64]{1,0}) async-update(%s), calls=%sine",
            "ROOT %d = f32[8,64]{1,0} async-done(%u), calls=%sine",
            before=fusion("sine", "ROOT %z = f32[8,64]{1,0} sine(%y)"),
        )
        == 2 * WHOLE
    )


def test_a_call_on_another_core_counts_once():
    """Of the sparse core of some TPUs, by which collectives run beside the program."""
    text = (
        "%s = ((f32[8,64]{1,0}, token[]), f32[8,64]{1,0}) call-start(%x), "
        'async_execution_thread="sparsecore", to_apply=%reduces',
        "ROOT %d = f32[8,64]{1,0} call-done(%s)",
    )
    reduces = fusion("reduces", "ROOT %r = f32[8,64]{1,0} all-reduce(%y), replica_groups=[2,4]<=[8], to_apply=%add")
    read = program(lines(*text), before=reduces.replace("}\n", '}, execution_thread="sparsecore"\n'))
    assert memory_traffic(read) == 2 * WHOLE
    assert collectives(read)["all-reduce"].count == 1


def test_carried_values_of_a_loop_are_not_moved():
    """Only the row that the body updates: three times, read from %x and written."""
    body = (
        "%p = (s32[], f32[8,64]{1,0}, f32[8,64]{1,0}) parameter(0)",
        "%i = s32[]{:S(6)} get-tuple-element(%p), index=0",
        "%to = f32[8,64]{1,0} get-tuple-element(%p), index=1",
        "%of = f32[8,64]{1,0} get-tuple-element(%p), index=2",
        "%f = f32[8,64]{1,0} fusion(%to, %of, %i), kind=kLoop, calls=%row",
        "ROOT %out = (s32[], f32[8,64]{1,0}, f32[8,64]{1,0}) tuple(%i, %f, %of)",
    )
    row = (
        "%from = f32[8,64]{1,0} parameter(1)",
        "%i = s32[]{:S(6)} parameter(2)",
        "%one = f32[1,64]{1,0} dynamic-slice(%from, %i, %i), dynamic_slice_sizes={1,64}",
        "ROOT %u = f32[8,64]{1,0} dynamic-update-slice(%y, %one, %i, %i)",
    )
    condition = (
        "%q = (s32[], f32[8,64]{1,0}, f32[8,64]{1,0}) parameter(0)",
        "ROOT %yes = pred[]{:S(6)} constant(true)",
    )
    assert (
        traffic(
            "%z = s32[]{:S(6)} constant(0)",
            "%t = (s32[], f32[8,64]{1,0}, f32[8,64]{1,0}) tuple(%z, %x, %x)",
            "%w = (s32[], f32[8,64]{1,0}, f32[8,64]{1,0}) while(%t), condition=%condition, body=%body, "
            'backend_config={"known_trip_count":{"n":"3"}}',
            "ROOT %e = f32[8,64]{1,0} get-tuple-element(%w), index=1",
            before=fusion("row", *row) + computation("body", *body) + computation("condition", *condition),
        )
        == 3 * 2 * ROW
    )


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        # Of a slice of a value that is computed element by element, only the slice.
        (("%c = bf16[8,64]{1,0} convert(%y)", "ROOT %s = bf16[2,64]{1,0} slice(%c)"), 2 * ROW + ROW),
        # The slices of two users, at most the whole.
        (
            (
                "%a = f32[2,64]{1,0} slice(%y), slice={[0:2], [0:64]}",
                "%b = f32[2,64]{1,0} slice(%y), slice={[2:4], [0:64]}",
                "ROOT %s = f32[2,64]{1,0} add(%a, %b)",
            ),
            4 * ROW + 2 * ROW,
        ),
        # A reduction reads the whole, also if a part of its result is used.
        (("%r = f32[8]{0} reduce(%y), dimensions={1}, to_apply=%add", "ROOT %s = f32[2]{0} slice(%r)"), WHOLE + 8),
        # A fusion within the fusion reads a slice.
        (
            ("%f = f32[2,64]{1,0} fusion(%y), kind=kLoop, calls=%inner", "ROOT %s = f32[2,64]{1,0} sine(%f)"),
            2 * ROW + 2 * ROW,
        ),
        # A part of a fusion within the fusion.
        (
            ("%f = f32[8,64]{1,0} fusion(%y), kind=kLoop, calls=%sines", "ROOT %s = f32[2,64]{1,0} slice(%f)"),
            2 * ROW + 2 * ROW,
        ),
        # A copy.
        (("ROOT %b = f32[8,64]{1,0} bitcast(%y)",), 2 * WHOLE),
        # Two updates in place, of one row and two; a buffer without values counts as one that exists.
        (
            (
                "%k = s32[] constant(0)",
                "%one = f32[1,64]{1,0} constant(0)",
                "%two = f32[2,64]{1,0} constant(0)",
                "%u = f32[8,64]{1,0} dynamic-update-slice(%y, %one, %k, %k)",
                "%b = f32[8,64]{1,0} bitcast(%u)",
                "ROOT %v = f32[8,64]{1,0} dynamic-update-slice(%b, %two, %k, %k)",
            ),
            3 * ROW,
        ),
        (
            (
                "%k = s32[] constant(0)",
                "%s = f32[1,64]{1,0} slice(%y)",
                '%n = f32[8,64]{1,0} custom-call(), custom_call_target="AllocateBuffer"',
                "ROOT %v = f32[8,64]{1,0} dynamic-update-slice(%n, %s, %k, %k)",
            ),
            2 * ROW,
        ),
        # Not in place: zeros with the update are written, and an updated copy is read by another operation.
        (
            (
                "%k = s32[] constant(0)",
                "%s = f32[1,64]{1,0} slice(%y)",
                "%n = f32[8,64]{1,0} broadcast(%k)",
                "ROOT %v = f32[8,64]{1,0} dynamic-update-slice(%n, %s, %k, %k)",
            ),
            ROW + WHOLE,
        ),
        (
            (
                "%k = s32[] constant(0)",
                "%one = f32[1,64]{1,0} constant(0)",
                "%u = f32[8,64]{1,0} dynamic-update-slice(%y, %one, %k, %k)",
                "ROOT %v = f32[8,64]{1,0} sine(%u)",
            ),
            2 * WHOLE,
        ),
        # An update by a fusion within the fusion.
        (("ROOT %v = f32[8,64]{1,0} fusion(%y), kind=kLoop, calls=%updates",), ROW),
        # The buffer has other tiles in the fusion.
        (
            (
                "%k = s32[] constant(0)",
                "%one = f32[1,64]{1,0} constant(0)",
                "%t = f32[8,64]{1,0:T(4,64)} fusion(%y), kind=kLoop, output_to_operand_aliasing={{}: (0, {})}, "
                "calls=%tiles",
                "ROOT %v = f32[8,64]{1,0} dynamic-update-slice(%t, %one, %k, %k)",
            ),
            ROW,
        ),
        # Rows are added to: read and written.
        (
            (
                "%i = s32[2]{0} constant(0)",
                "%two = f32[2,64]{1,0} constant(0)",
                "ROOT %v = f32[8,64]{1,0} scatter(%y, %i, %two), to_apply=%add",
            ),
            4 * ROW,
        ),
    ],
)
def test_fusions(text, expected):
    inner = fusion("inner", "ROOT %s = f32[2,64]{1,0} slice(%y)")
    inner += fusion("tiles", "ROOT %c = f32[8,64]{1,0:T(4,64)} copy(%y)")
    inner += fusion("sines", "ROOT %s = f32[8,64]{1,0} sine(%y)")
    inner += fusion(
        "updates",
        "%k = s32[] constant(0)",
        "%one = f32[1,64]{1,0} constant(0)",
        "ROOT %u = f32[8,64]{1,0} dynamic-update-slice(%y, %one, %k, %k)",
    )
    (kind,) = (line.split("= ")[1].split(" ")[0] for line in text if line.startswith("ROOT"))
    got = traffic(f"ROOT %f = {kind} fusion(%x), kind=kLoop, calls=%body", before=inner + fusion("body", *text))
    assert got == expected


def test_an_operand_that_is_passed_on_is_not_moved():
    """With the buffer of the operand; without, it is copied."""
    body = fusion("body", "%s = f32[8,64]{1,0} sine(%y)", "ROOT %t = (f32[8,64]{1,0}, f32[8,64]{1,0}) tuple(%s, %y)")
    call = "ROOT %f = (f32[8,64]{1,0}, f32[8,64]{1,0}) fusion(%x), kind=kLoop, "
    assert traffic(f"{call}output_to_operand_aliasing={{{{1}}: (0, {{}})}}, calls=%body", before=body) == 2 * WHOLE
    assert traffic(f"{call}calls=%body", before=body) == 3 * WHOLE
    inplace = fusion("body", "ROOT %s = f32[8,64]{1,0} sine(%y)")
    call = "ROOT %f = f32[8,64]{1,0} fusion(%x), kind=kLoop, output_to_operand_aliasing={{}: (0, {})}, calls=%body"
    assert traffic(call, before=inplace) == 2 * WHOLE


def test_a_collective_behind_computation_counts_at_its_start():
    """As the TPU compiler writes it: a fusion that starts it, one that computes meanwhile, one that ends it."""
    gathered, kind = "f32[32,64]{1,0}", "(f32[8,64]{1,0}, f32[32,64]{1,0}, u32[]{:S(2)})"
    gather = f'%g = {gathered} all-gather(%y), replica_groups=[2,4]<=[8], frontend_attributes={{chain_id="0"}}'
    buffers = (
        f"%b = {gathered} parameter(1)",
        "%s = u32[]{:S(2)} parameter(2)",
    )
    opens = fusion("opens", gather, f'ROOT %c = {kind} custom-call(%g), custom_call_target="AsyncCollectiveStart"')
    goes_on = fusion(
        "goes_on",
        *buffers,
        "%z = f32[2,64]{1,0} parameter(3)",
        "%w = f32[2,64]{1,0} sine(%z)",
        gather,
        f"ROOT %t = (f32[2,64]{{1,0}}, f32[8,64]{{1,0}}, {gathered}, {gathered}, u32[]{{:S(2)}}) "
        "tuple(%w, %y, %b, %g, %s)",
    )
    closes = fusion(
        "closes",
        *buffers,
        gather,
        f'ROOT %c = {gathered} custom-call(%y, %b, %g, %s), custom_call_target="AsyncCollectiveDone"',
    )
    read = program(
        lines(
            "%z = f32[2,64]{1,0} parameter(1)",
            f"%o = {kind} fusion(%x), kind=kCustom, output_to_operand_aliasing={{{{0}}: (0, {{}})}}, calls=%opens",
            "%o0 = f32[8,64]{1,0} get-tuple-element(%o), index=0",
            f"%o1 = {gathered} get-tuple-element(%o), index=1",
            "%o2 = u32[]{:S(2)} get-tuple-element(%o), index=2",
            f"%m = (f32[2,64]{{1,0}}, f32[8,64]{{1,0}}, {gathered}, {gathered}, u32[]{{:S(2)}}) "
            "fusion(%o0, %o1, %o2, %z), kind=kOutput, output_to_operand_aliasing="
            "{{1}: (0, {}), {2}: (1, {}), {3}: (1, {}), {4}: (2, {})}, calls=%goes_on",
            f"ROOT %d = {gathered} fusion(%o0, %o1, %o2), kind=kCustom, "
            "output_to_operand_aliasing={{}: (1, {})}, calls=%closes",
        ),
        before=opens + goes_on + closes,
    )
    moved = {visit.instruction.name: size for visit, size in traffic_by_instruction(read) if size}
    assert moved == {"o": 5 * WHOLE, "m": 4 * ROW}
