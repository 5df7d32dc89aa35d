"""Name tables map the tensors of a public checkpoint to the leaves of our parameter trees.

A table is an ordered list of rules. A rule pairs two name templates with common placeholders, `theirs` (with dots) and
`ours` (with slashes), and names the layout of the tensor:

    Rule("h.{i}.attn.c_proj.weight", "block_{i}/attention/out/kernel", "linear")

`{i}` stands for a decimal number and `{x:[a-z]+}` for any text that the regular expression matches. The first rule
that matches a name is used. Rules work in both directions, so `from_release` and `to_release` use the same table, and
the round trip is exact: every layout below is a permutation of the elements.
"""

import dataclasses
import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np
from flax import traverse_util

from codi_jax.config import ConfigError, few
from codi_jax.types import PyTree


class NamesError(ConfigError):
    """A checkpoint does not fit a parameter tree; the message names the first tensors that do not."""


@dataclasses.dataclass(frozen=True)
class AxisLayout:
    """A bijection between the array in the checkpoint and ours."""

    to_ours: Callable[[np.ndarray], np.ndarray]
    to_theirs: Callable[[np.ndarray], np.ndarray]


def _permute(*axes: int) -> AxisLayout:
    return AxisLayout(lambda x: x.transpose(axes), lambda x: x.transpose(np.argsort(axes)))


def _pointwise(ones: int) -> AxisLayout:
    """A convolution with kernel size 1 over `ones` axes, [O, I, 1, ...], is a dense [I, O]."""
    return AxisLayout(lambda x: x.reshape(x.shape[:2]).T, lambda x: x.T.reshape(*x.shape[::-1], *(1,) * ones))


def _gain(before: int, after: int) -> AxisLayout:
    """A vector padded by axes of size 1 for broadcasting."""
    return AxisLayout(lambda x: x.reshape(-1), lambda x: x.reshape(*(1,) * before, -1, *(1,) * after))


LAYOUTS: dict[str, AxisLayout] = {
    "same": AxisLayout(lambda x: x, lambda x: x),
    "linear": _permute(1, 0),  # [O, I] ↔ [I, O]
    "conv1d": _permute(2, 1, 0),  # [O, I, K] ↔ [K, I, O]
    "conv2d": _permute(2, 3, 1, 0),  # [O, I, H, W] ↔ [H, W, I, O]
    # PyTorch's transposed convolution [I, O, K] is the gradient of a convolution, so its kernel is flipped: [K, I, O].
    "conv1d_transpose": AxisLayout(
        lambda x: x[:, :, ::-1].transpose(2, 0, 1), lambda x: x.transpose(1, 2, 0)[:, :, ::-1]
    ),
    # A matrix [O, I] ↔ the equivalent convolution with kernel size 1, [1, 1, I, O].
    "matrix_1x1": AxisLayout(lambda x: x.transpose(1, 0)[None, None], lambda x: x[0, 0].T),
    "pointwise1": _pointwise(1),
    "pointwise2": _pointwise(2),
    "pointwise3": _pointwise(3),
    "gain_1c1": _gain(1, 1),
    "gain_c111": _gain(0, 3),
    "table": AxisLayout(lambda x: x[0], lambda x: x[None]),  # [1, N, C] ↔ [N, C]
}


@dataclasses.dataclass(frozen=True)
class Rule:
    """Maps names of the checkpoint to names of ours and back.

    Attributes:
      theirs: template of the checkpoint's key.
      ours: template of our path.
      layout: a key of `LAYOUTS`.
      tied: the tensor is a copy of one that another rule reads. In a checkpoint that is read it may be absent, and must
        be equal otherwise; it is always written.
    """

    theirs: str
    ours: str
    layout: str = "same"
    tied: bool = False


def at(theirs: str, ours: str, rules: Iterable[Rule]) -> list[Rule]:
    """The rules with both templates prefixed; an empty prefix adds nothing."""
    a, b = theirs and f"{theirs}.", ours and f"{ours}/"
    return [dataclasses.replace(r, theirs=a + r.theirs, ours=b + r.ours) for r in rules]


def affine(theirs: str, ours: str, layout: str = "linear", bias: bool = True) -> list[Rule]:
    """The rules of a layer with a kernel and, by default, a bias."""
    rules = [Rule(f"{theirs}.weight", f"{ours}/kernel", layout)]
    return [*rules, Rule(f"{theirs}.bias", f"{ours}/bias")] if bias else rules


def norm(theirs: str, ours: str) -> list[Rule]:
    """The rules of a normalization layer with scale and bias."""
    return [Rule(f"{theirs}.weight", f"{ours}/scale"), Rule(f"{theirs}.bias", f"{ours}/bias")]


_PLACEHOLDER = re.compile(r"\{(\w+)(?::([^{}]+))?\}")


def _regex(template: str) -> re.Pattern:
    out, end = [], 0
    for m in _PLACEHOLDER.finditer(template):
        out += [re.escape(template[end : m.start()]), f"(?P<{m[1]}>{m[2] or '[0-9]+'})"]
        end = m.end()
    return re.compile("".join(out) + re.escape(template[end:]))


def _fill(template: str, values: Mapping[str, str]) -> str:
    return _PLACEHOLDER.sub(lambda m: values[m[1]], template)


class NameTable:
    """Looks up names in an ordered list of rules. Templates without placeholders are hashed, since tables are long."""

    def __init__(self, rules: Sequence[Rule], source: str, target: str):
        self._target, self._fixed, self._patterns = target, {}, []
        for n, rule in enumerate(rules):
            template = getattr(rule, source)
            if _PLACEHOLDER.search(template):
                self._patterns.append((n, _regex(template), rule))
            else:
                self._fixed.setdefault(template, []).append((n, rule))

    def matches(self, name: str) -> list[tuple[Rule, str]]:
        """The rules that match a name, in order, each with the corresponding name on the other side."""
        found = [(n, rule, getattr(rule, self._target)) for n, rule in self._fixed.get(name, ())]
        for n, regex, rule in self._patterns:
            if m := regex.fullmatch(name):
                found.append((n, rule, _fill(getattr(rule, self._target), m.groupdict())))
        return [(rule, other) for _, rule, other in sorted(found, key=lambda f: f[0])]


def flatten(tree: Mapping[str, Any]) -> dict[str, Any]:
    """The leaves of nested dicts by path, in the order of the dicts."""
    return traverse_util.flatten_dict(tree, sep="/")


def _kind(dtype: Any) -> str:
    return "float" if jnp.issubdtype(dtype, jnp.floating) else np.dtype(dtype).kind


def _report(problems: Mapping[str, list[str]], fitting: str = "") -> None:
    lines = [f"{what}: {few(names)}" for what, names in problems.items() if names]
    if lines:
        raise NamesError(f"the checkpoint does not fit{fitting}. " + "; ".join(lines))


_BLOCK = 1 << 24  # elements that are checked at a time


def finite(array: np.ndarray) -> bool:
    """Whether no element is NaN or infinite; large arrays are checked in pieces to save memory."""
    if _kind(array.dtype) != "float":
        return True
    rows = max(1, _BLOCK // max(1, math.prod(array.shape[1:])))
    pieces = (array[i : i + rows] for i in range(0, len(array), rows)) if array.ndim else (array,)
    return all(bool(np.isfinite(piece).all()) for piece in pieces)


def from_release(
    state: Mapping[str, Any],
    rules: Sequence[Rule],
    target: PyTree,
    ignore: Sequence[str] = (),
    optional: Sequence[str] = (),
    cast: bool = True,
) -> dict[str, Any]:
    """Converts a checkpoint's flat dictionary into a parameter tree.

    Args:
      state: their key -> array.
      rules: the table.
      target: nested dict whose leaves have the shapes and dtypes to produce (arrays or `jax.ShapeDtypeStruct`).
      ignore: regular expressions for keys (full match) that are not read, such as buffers that the model recomputes.
      optional: regular expressions for our paths (full match) of leaves that may be absent in the checkpoint or have
        another shape there; such leaves are omitted from the result.
      cast: whether floats are cast to the target's dtype. If not, every leaf keeps its dtype and is a view of the
        checkpoint's array, so that a memory-mapped file is not copied.

    Returns:
      A nested dict of numpy arrays with the leaves of `target`, less the omitted ones.

    Raises:
      NamesError: naming the first tensors that are missing, unexpected, misshaped, mistyped, doubled, not equal to the
        one they are tied to, or not finite.
    """
    leaves = flatten(target)
    ignored = [re.compile(p) for p in ignore]
    table = NameTable(rules, "theirs", "ours")
    problems: dict[str, list[str]] = {
        k: [] for k in ("missing", "unexpected", "misshaped", "mistyped", "doubled", "untied", "not finite")
    }
    omittable = [re.compile(p) for p in optional]

    def typed(array: np.ndarray, leaf: Any) -> np.ndarray:
        return np.asarray(array.astype(leaf.dtype), order="C") if cast else array

    out: dict[str, np.ndarray] = {}
    ties: list[tuple[str, str, np.ndarray]] = []
    for key, value in state.items():
        if any(p.fullmatch(key) for p in ignored):
            continue
        match = next(iter(table.matches(key)), None)
        if match is None or match[1] not in leaves:
            problems["unexpected"].append(key if match is None else f"{key} (our {match[1]})")
            continue
        rule, path = match
        leaf, array = leaves[path], np.asarray(value)
        try:
            array = LAYOUTS[rule.layout].to_ours(array)
        except (ValueError, IndexError):
            problems["misshaped"].append(f"{key} {array.shape} does not have the layout {rule.layout}")
            continue
        if array.shape != tuple(leaf.shape):
            if any(p.fullmatch(path) for p in omittable):
                continue
            problems["misshaped"].append(f"{key} {array.shape}, expected {tuple(leaf.shape)} as {path}")
        elif _kind(array.dtype) != _kind(leaf.dtype):
            problems["mistyped"].append(f"{key} {array.dtype}, expected {leaf.dtype}")
        elif not finite(array):
            problems["not finite"].append(key)
        elif rule.tied:
            ties.append((key, path, typed(array, leaf)))
        elif path in out:
            problems["doubled"].append(f"{key} (our {path})")
        else:
            out[path] = typed(array, leaf)
    for key, path, array in ties:
        if not np.array_equal(out.setdefault(path, array), array):
            problems["untied"].append(f"{key} differs from the tensor it is tied to (our {path})")
    inverse = NameTable(rules, "ours", "theirs")
    reported = {name.split(" ")[0] for names in problems.values() for name in names}
    for path in leaves:
        theirs = next((name for rule, name in inverse.matches(path) if not rule.tied), "no rule")
        if path not in out and theirs not in reported and not any(p.fullmatch(path) for p in omittable):
            problems["missing"].append(f"{theirs} (our {path})")
    _report(problems, f": {len(out)} of {len(leaves)} tensors do")
    return traverse_util.unflatten_dict(out, sep="/")


@dataclasses.dataclass(frozen=True)
class ParamSite:
    """The position of a leaf in a public checkpoint: its key and layout, and whether it is a tied copy."""

    path: str
    key: str
    layout: AxisLayout
    tied: bool


def param_sites(leaves: Iterable[str], rules: Sequence[Rule]) -> list[ParamSite]:
    """The sites of the leaves with these paths, tied copies included.

    Raises:
      NamesError: no rule matches a leaf.
    """
    table = NameTable(rules, "ours", "theirs")
    out, unnamed = [], []
    for path in leaves:
        matches = table.matches(path)
        names = [m for m in matches if not m[0].tied][:1] + [m for m in matches if m[0].tied]
        if not names:
            unnamed.append(path)
        out += [ParamSite(path, key, LAYOUTS[rule.layout], rule.tied) for rule, key in names]
    _report({"without a rule": unnamed})
    return out


def to_release(tree: PyTree, rules: Sequence[Rule]) -> dict[str, np.ndarray]:
    """Converts a parameter tree into the flat dictionary of the public checkpoint, tied copies included.

    Raises:
      NamesError: no rule matches a leaf.
    """
    flat = flatten(tree)
    return {
        site.key: np.asarray(site.layout.to_theirs(np.asarray(flat[site.path])), order="C")
        for site in param_sites(flat, rules)
    }


def under(state: Mapping[str, Any], prefix: str) -> dict[str, Any]:
    """The entries of a flat dictionary whose keys start with `prefix`, with the prefix removed."""
    return {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)}
