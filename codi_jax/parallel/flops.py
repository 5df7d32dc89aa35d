"""Floating-point operations of a program, counted on its jaxpr.

    dot_general             2 · (size of the result) · (contracted length)
    conv_general_dilated    2 · #{(output position, kernel tap): the tap reads an input element, not padding and not a
                            hole of a dilated input} · (input channels of a group) · batch · (output channels)
    scan                    length × its body
    while                   trip count × its body, if counter, bound and step are literals in the program
    cond                    the branch with the most operations
    shard_map               number of shards × its body, which is the program of one shard
    pallas_call             the `flops` of its `cost_estimate`, else number of grid points × its kernel, as if every
                            `pl.when` were true
    dot_product_attention   of cuDNN, P queries to L keys, masked or not: 4 · batch · heads · P · L · d; backward 10,
                            since it computes the scores again

A matrix unit of edge e multiplies a stationary tile [e, e] with at least e rows in the time of e rows, so that a narrow
product takes the time of a wider one. `Flops.on_unit` counts [M, K] · [K, N] as ⌈K/e⌉ ⌈N/e⌉ max(M, e) · 2e² operations,
or with M and N exchanged if that is less, but never more than `most` times the operations: what is smaller still is
computed by the vector unit. A convolution is taken as the product of its patches with its kernel, K = taps · channels.

XLA's `cost_analysis` counts a loop body once; this module multiplies it by the trip count. Elementwise operations are
not counted: they are few compared with the products, and bound by memory. Recomputation (`remat`) is in the program and
is counted; dead code is not, since the compiler removes it.
"""

import dataclasses
import math
from collections.abc import Iterator, Sequence
from typing import Any, Protocol

import numpy as np
from jax.extend import source_info_util
from jax.extend.core import Jaxpr, Literal
from jax.interpreters.partial_eval import dce_jaxpr

Shape = tuple[int, int, int]  # M, K, N of the product of [M, K] and [K, N]


def used(shape: Shape, edge: int) -> float:
    """The share of a matrix unit of this edge that a product uses at best."""
    m, k, n = shape

    def time(streamed: int, stationary: int) -> int:
        return math.ceil(k / edge) * math.ceil(stationary / edge) * max(streamed, edge) * edge**2

    return m * k * n / min(time(m, n), time(n, m))


@dataclasses.dataclass(frozen=True)
class Product:
    """An equation that is counted: its operations and the bytes of its results in all of its runs.

    Attributes:
      name: of the functions and modules that it was traced in and of its primitive, separated by slashes.
      array: dtype and shape of its largest result.
      shapes: (M, K, N) of the matrix products that it consists of, with the share of its operations that each has; none
        if they are unknown.
    """

    name: str
    array: str
    times: int
    flops: float
    bytes: float
    shapes: tuple[tuple[float, Shape], ...] = ()

    def on_unit(self, edge: int, most: float) -> float:
        """Operations that a matrix unit of this edge could do in the time that the product needs; see the module."""
        if not self.shapes:
            return self.flops
        return self.flops * sum(share * min(1 / used(shape, edge), most) for share, shape in self.shapes)


@dataclasses.dataclass(frozen=True)
class Flops:
    """A number of operations, the loops in it whose trip count is unknown (their body is counted once), and the
    equations that it is the sum of."""

    total: float
    unknown_loops: tuple[str, ...] = ()
    products: tuple[Product, ...] = ()

    def __add__(self, other: "Flops") -> "Flops":
        return Flops(self.total + other.total, self.unknown_loops + other.unknown_loops, self.products + other.products)

    def on_unit(self, edge: int, most: float) -> float:
        """Operations that a matrix unit of this edge could do in the time that all products need."""
        return sum(product.on_unit(edge, most) for product in self.products)

    def times(self, count: int) -> "Flops":
        products = (
            dataclasses.replace(p, times=p.times * count, flops=p.flops * count, bytes=p.bytes * count)
            for p in self.products
        )
        return Flops(self.total * count, self.unknown_loops, tuple(products))

    def within(self, scope: str) -> "Flops":
        """The same in an equation that was traced in these functions and modules."""
        if not scope:
            return self
        products = (dataclasses.replace(p, name=f"{scope}/{p.name}") for p in self.products)
        return Flops(self.total, self.unknown_loops, tuple(products))


class TracedProgram(Protocol):
    """A jaxpr with its constants, as `jax.make_jaxpr` returns it: ClosedJaxpr, which jax 0.12 merged with Jaxpr."""

    @property
    def jaxpr(self) -> Any: ...


def count(program: TracedProgram) -> Flops:
    """Operations of one call of a program, summed over its devices."""
    return _count(dce_jaxpr(program.jaxpr, True)[0])


def read_inputs(program: TracedProgram) -> list[bool]:
    """Which inputs the results depend on; a compiled program drops the others."""
    return dce_jaxpr(program.jaxpr, True)[1]


def _count(jaxpr: Jaxpr) -> Flops:
    return sum((_equation(equation) for equation in jaxpr.eqns), Flops(0.0))


def _equation(equation: Any) -> Flops:
    return _operations(equation).within(str(equation.source_info.name_stack))


def _product(equation: Any, flops: float, shapes: tuple[tuple[float, Shape], ...] = ()) -> Flops:
    largest = max((v.aval for v in equation.outvars), key=_bytes)
    array = f"{np.dtype(largest.dtype).name}[{','.join(map(str, largest.shape))}]"
    results = float(sum(_bytes(v.aval) for v in equation.outvars))
    return Flops(flops, products=(Product(equation.primitive.name, array, 1, flops, results, shapes),))


def _bytes(aval: Any) -> int:
    return math.prod(aval.shape) * aval.dtype.itemsize


def _operations(equation: Any) -> Flops:
    name, params = equation.primitive.name, equation.params
    if name == "dot_general":
        (contracted, _), (batch, _) = params["dimension_numbers"]
        left, right, result = (math.prod(v.aval.shape) for v in (*equation.invars, *equation.outvars))
        length, count = (
            math.prod(equation.invars[0].aval.shape[axis] for axis in axes) for axes in (contracted, batch)
        )
        shape = (left // max(count * length, 1), length, right // max(count * length, 1))
        return _product(equation, 2.0 * result * length, ((1.0, shape),) if result * length else ())
    if name == "conv_general_dilated":
        return _product(equation, *_convolution(equation))
    if name == "scan":
        return _count(params["jaxpr"]).times(params["length"])
    if name == "while":
        trips = _trip_count(equation)
        body = _count(params["body_jaxpr"]) + _count(params["cond_jaxpr"])
        if trips is not None:
            return body.times(trips)
        loop = f"while at {source_info_util.summarize(equation.source_info)}" if body.total else ""
        return body + Flops(0.0, (loop,) if loop else ())
    if name == "cond":
        return max((_count(branch) for branch in params["branches"]), key=lambda flops: flops.total)
    if name == "pallas_call":
        return _kernel(equation)
    if name.startswith("dot_product_attention"):
        return _product(equation, _attention(equation))
    inner = sum((_count(inner) for value in params.values() for inner in programs_in(value)), Flops(0.0))
    if name == "shard_map":
        return inner.times(math.prod(params["mesh"].shape[axis] for axis in params["newly_manual_axes"]))
    return inner


def _kernel(equation: Any) -> Flops:
    """Operations of a Pallas kernel; a dimension of its grid that is known only when it runs counts as one point."""
    params = equation.params
    if (estimate := params["cost_estimate"]) and estimate.flops:
        return _product(equation, float(estimate.flops))
    grid, point = params["grid_mapping"].grid, _count(params["jaxpr"])
    known = [length for length in grid if isinstance(length, int)]
    where = f"grid of a Pallas kernel at {source_info_util.summarize(equation.source_info)}"
    unknown = point.unknown_loops + ((where,) if point.total and len(known) < len(grid) else ())
    shapes = tuple(
        (p.flops / point.total * share, shape) for p in point.products if p.flops for share, shape in p.shapes
    )
    return _product(equation, point.total * math.prod(known), shapes) + Flops(0.0, unknown)


def _attention(equation: Any) -> float:
    """Operations of cuDNN's attention of queries [B, P, N, d] to keys [B, L, N, d]; layout 1 is [B, N, …, d]."""
    q, k = (x.aval.shape for x in equation.invars[:2])
    length = k[2 if equation.params["layout"] == 1 else 1]
    return (10.0 if "_bwd" in equation.primitive.name else 4.0) * math.prod(q) * length


def programs_in(value: Any) -> Iterator[Jaxpr]:
    """The jaxprs in a parameter of an equation: of jit, remat, custom derivatives and other calls."""
    value = getattr(value, "jaxpr", value)  # without the constants
    if isinstance(value, Jaxpr):
        yield value
    elif isinstance(value, tuple | list):
        for item in value:
            yield from programs_in(item)


def _convolution(equation: Any) -> tuple[float, tuple[tuple[float, Shape], ...]]:
    """The operations of a convolution, and the shape of the product of its patches with its kernel."""
    params, (x, kernel) = equation.params, [v.aval.shape for v in equation.invars]
    numbers = params["dimension_numbers"]
    result = equation.outvars[0].aval.shape
    (batch, features, *positions), (_, channels, *taps) = numbers.out_spec, numbers.rhs_spec
    pairs = 1
    for i, (position, tap) in enumerate(zip(positions, taps, strict=True)):
        pairs *= _pairs(
            x[numbers.lhs_spec[2 + i]],
            kernel[tap],
            result[position],
            params["window_strides"][i],
            params["padding"][i][0],
            params["lhs_dilation"][i],
            params["rhs_dilation"][i],
        )
    # The kernel's input channels are those of one group.
    flops = 2.0 * result[batch] * result[features] * kernel[channels] * pairs
    places, patch = (
        math.prod((first, *(sizes[i] for i in axes)))
        for first, sizes, axes in ((result[batch], result, positions), (kernel[channels], kernel, taps))
    )
    shape = (places, patch, result[features] // params["feature_group_count"])
    return flops, ((1.0, shape),) if flops else ()


def _pairs(
    length: int, taps: int, positions: int, stride: int, padding: int, lhs_dilation: int, rhs_dilation: int
) -> int:
    """Along one dimension, the number of pairs (output position, kernel tap) that read an input element."""
    at = np.arange(positions)[:, None] * stride + np.arange(taps) * rhs_dilation - padding
    return int(((at >= 0) & (at <= (length - 1) * lhs_dilation) & (at % lhs_dilation == 0)).sum())


def _trip_count(equation: Any) -> int | None:
    """The trip count of a `while` that counts up from one literal to another; None for any other."""
    params = equation.params
    condition, body = params["cond_jaxpr"].jaxpr, params["body_jaxpr"].jaxpr
    if len(condition.eqns) != 1 or condition.eqns[0].primitive.name != "lt":
        return None
    conditions, bodies = params["cond_nconsts"], params["body_nconsts"]
    constants, start = equation.invars[:conditions], equation.invars[conditions + bodies :]
    counter, bound = condition.eqns[0].invars
    carried = list(condition.invars[conditions:])
    if counter not in carried:
        return None
    index = carried.index(counter)
    if bound in condition.invars[:conditions]:
        bound = constants[condition.invars.index(bound)]
    step = _step(body.eqns, body.invars[bodies + index], body.outvars[index])
    if step is None or not (isinstance(bound, Literal) and isinstance(start[index], Literal)):
        return None
    return max(math.ceil((bound.val - start[index].val) / step), 0)


def _step(equations: Sequence[Any], before: Any, after: Any) -> int | None:
    """By how much one iteration raises the counter."""
    for equation in equations:
        if after in equation.outvars and equation.primitive.name == "add" and before in equation.invars:
            (other,) = [v for v in equation.invars if v is not before] or [None]
            if isinstance(other, Literal) and other.val > 0:
                return other.val
    return None
