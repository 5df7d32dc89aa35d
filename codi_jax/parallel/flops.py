"""Floating-point operations of a program, counted on its jaxpr.

    dot_general             2 · (numbers of the result) · (length that is summed over)
    conv_general_dilated    2 · Σ over the pairs (place of the result, tap of the kernel) that meet a real number,
                            not padding and not a hole of a dilated input, · (channels summed over) · batch · features
    scan                    length × its body
    while                   its body as often as it runs, where counter, bound and step are written in the program
    cond                    the dearest branch
    shard_map               its body, which is one shard's, × the shards

What XLA reports of a compiled program counts the body of a loop once; this counts it as often as it runs. Elementwise
work is not counted: beside the products it is small, and it is bound by memory. Recomputation (`remat`) is in the
program and hence in the sum; what no result depends on is not, since the compiler leaves it out.
"""

import dataclasses
import math
from collections.abc import Iterator, Sequence
from typing import Any

import jax
import numpy as np
from jax.extend.core import ClosedJaxpr, Jaxpr, Literal
from jax.interpreters.partial_eval import dce_jaxpr


@dataclasses.dataclass(frozen=True)
class Flops:
    """A sum, and the loops in it whose number of turns nobody knows: each counts as one turn."""

    total: float
    unknown_loops: tuple[str, ...] = ()

    def __add__(self, other: "Flops") -> "Flops":
        return Flops(self.total + other.total, self.unknown_loops + other.unknown_loops)

    def times(self, count: int) -> "Flops":
        return Flops(self.total * count, self.unknown_loops)


def count(program: ClosedJaxpr) -> Flops:
    """Operations of one call of a program, over all devices that share it."""
    return _count(dce_jaxpr(program.jaxpr, True)[0])


def read_inputs(program: ClosedJaxpr) -> list[bool]:
    """Which inputs the results depend on; a compiled program does not take the others."""
    return dce_jaxpr(program.jaxpr, True)[1]


def _count(jaxpr: ClosedJaxpr | Jaxpr) -> Flops:
    jaxpr = jaxpr.jaxpr if isinstance(jaxpr, ClosedJaxpr) else jaxpr
    return sum((_equation(equation) for equation in jaxpr.eqns), Flops(0.0))


def _equation(equation: Any) -> Flops:
    name, params = equation.primitive.name, equation.params
    if name == "dot_general":
        (contracted, _), _ = params["dimension_numbers"]
        length = math.prod(equation.invars[0].aval.shape[axis] for axis in contracted)
        return Flops(2.0 * math.prod(equation.outvars[0].aval.shape) * length)
    if name == "conv_general_dilated":
        return Flops(_convolution(equation))
    if name == "scan":
        return _count(params["jaxpr"]).times(params["length"])
    if name == "while":
        turns = _turns(equation)
        body = _count(params["body_jaxpr"]) + _count(params["cond_jaxpr"])
        if turns is not None:
            return body.times(turns)
        loop = f"while at {jax.extend.source_info_util.summarize(equation.source_info)}" if body.total else ""
        return body + Flops(0.0, (loop,) if loop else ())
    if name == "cond":
        return max((_count(branch) for branch in params["branches"]), key=lambda flops: flops.total)
    inner = sum((_count(inner) for value in params.values() for inner in programs_in(value)), Flops(0.0))
    if name == "shard_map":
        return inner.times(math.prod(params["mesh"].shape[axis] for axis in params["newly_manual_axes"]))
    return inner


def programs_in(value: Any) -> Iterator[Any]:
    """The jaxprs in a parameter of an equation: of jit, remat, custom derivatives and whatever else calls one."""
    if isinstance(value, ClosedJaxpr | Jaxpr):
        yield value
    elif isinstance(value, tuple | list):
        for item in value:
            yield from programs_in(item)


def _convolution(equation: Any) -> float:
    params, (x, kernel) = equation.params, [v.aval.shape for v in equation.invars]
    numbers = params["dimension_numbers"]
    result = equation.outvars[0].aval.shape
    (batch, features, *places), (_, channels, *taps) = numbers.out_spec, numbers.rhs_spec
    pairs = 1
    for i, (place, tap) in enumerate(zip(places, taps, strict=True)):
        pairs *= _pairs(
            x[numbers.lhs_spec[2 + i]],
            kernel[tap],
            result[place],
            params["window_strides"][i],
            params["padding"][i][0],
            params["lhs_dilation"][i],
            params["rhs_dilation"][i],
        )
    # The kernel's own channels are those of one group.
    return 2.0 * result[batch] * result[features] * kernel[channels] * pairs


def _pairs(length: int, taps: int, places: int, stride: int, padding: int, holes: int, spread: int) -> int:
    """Along one dimension, how often a tap meets a number of the input."""
    at = np.arange(places)[:, None] * stride + np.arange(taps) * spread - padding
    return int(((at >= 0) & (at <= (length - 1) * holes) & (at % holes == 0)).sum())


def _turns(equation: Any) -> int | None:
    """How often a `while` runs that counts up from one written number to another."""
    params = equation.params
    condition, body = params["cond_jaxpr"].jaxpr, params["body_jaxpr"].jaxpr
    if len(condition.eqns) != 1 or condition.eqns[0].primitive.name != "lt":
        return None
    conditions, bodies = params["cond_nconsts"], params["body_nconsts"]
    given, start = equation.invars[:conditions], equation.invars[conditions + bodies :]
    counter, bound = condition.eqns[0].invars
    carried = list(condition.invars[conditions:])
    if counter not in carried:
        return None
    index = carried.index(counter)
    if bound in condition.invars[:conditions]:
        bound = given[condition.invars.index(bound)]
    step = _step(body.eqns, body.invars[bodies + index], body.outvars[index])
    if step is None or not (isinstance(bound, Literal) and isinstance(start[index], Literal)):
        return None
    return max(math.ceil((bound.val - start[index].val) / step), 0)


def _step(equations: Sequence[Any], before: Any, after: Any) -> int | None:
    """By how much one turn raises the counter."""
    for equation in equations:
        if after in equation.outvars and equation.primitive.name == "add" and before in equation.invars:
            (other,) = [v for v in equation.invars if v is not before] or [None]
            if isinstance(other, Literal) and other.val > 0:
                return other.val
    return None
