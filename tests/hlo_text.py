"""Short HLO programs as text."""

from codi_jax.parallel.hlo import Program


def program(entry, before="", devices=8):
    """A program whose entry computation has these lines; `%x` is f32[8,64], 2048 bytes."""
    return Program(
        f"HloModule test, is_scheduled=true, num_partitions={devices}\n\n"
        "%add (a: f32[], b: f32[]) -> f32[] {\n  %a = f32[] parameter(0)\n  %b = f32[] parameter(1)\n"
        f"  ROOT %sum = f32[] add(%a, %b)\n}}\n\n{before}\n"
        f"ENTRY %main (x: f32[8,64]) -> f32[8,64] {{\n  %x = f32[8,64]{{1,0}} parameter(0)\n{entry}\n}}\n"
    )


def lines(*text):
    """Lines of a computation."""
    return "\n".join(f"  {line}" for line in text)


def computation(name, *text):
    """A computation with these lines."""
    return f"%{name} (y: f32[8,64]) -> f32[8,64] {{\n{lines(*text)}\n}}\n"


def fusion(name, *text):
    """A computation with a parameter `%y` of f32[8,64] and these lines."""
    return computation(name, "%y = f32[8,64]{1,0} parameter(0)", *text)
