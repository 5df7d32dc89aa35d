"""LoRA: low-rank adapters of kernels (Hu et al., arXiv 2106.09685), merged into the parameters that modules read.

    W' = W + (alpha / r) · A B        dense layer W [I, O]: A [I, r], B [r, O]
                                      convolution W [..., I, O]: A [..., I, r], B [r, O]

A convolution by A with r channels, then one by B with kernel size 1, is the convolution by A B. No module knows of
adapters: they are leaves beside the kernel in the tree of a component, and `merged` returns the tree without them:

    {"kernel": W, "bias": b, "lora_a": A, "lora_b": B, "lora_alpha": alpha}  ->  {"kernel": W', "bias": b}

A tree of adapters is {component: tree} of these three leaves alone. A is initialized as in PEFT, B with zeros, so that
W' = W bit by bit before the first step.
"""

import math
from collections.abc import Iterable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from codi_jax.config import ConfigError
from codi_jax.parallel import paths
from codi_jax.parallel.host import compiled_for_one_call
from codi_jax.rng import fold
from codi_jax.types import Array, Params

LEAVES = ("lora_a", "lora_b", "lora_alpha")
TRAINED = (".*/lora_[ab]",)  # `trainable` of a stage that trains adapters
_A = f"/{LEAVES[0]}"


def kernels(params: Params) -> dict[str, Any]:
    """The leaves that can have adapters, by path: kernels of dense layers and of convolutions."""
    return {p: leaf for p, leaf in paths.flatten(params).items() if p.endswith("/kernel") and len(leaf.shape) >= 2}


def sites(flat: Mapping[str, Any]) -> list[str]:
    """The layers with adapters, among leaves by path: the paths of their kernels without `/kernel`."""
    return [path.removesuffix(_A) for path in flat if path.endswith(_A)]


def init(key: jax.Array, params: Params, ranks: Mapping[str, int], alpha: float = 0.0) -> Params:
    """New adapters.

    Args:
      key: folded by the path of each kernel.
      params: {component: tree} of arrays or ShapeDtypeStructs.
      ranks: path of a kernel -> r.
      alpha: of all adapters; 0 for r.

    Returns:
      A tree of float32 adapters: A is uniform within 1 / √fan_in, B is zero.
    """
    shapes, flat = kernels(params), {}
    for path, rank in ranks.items():
        *receptive, out = shapes[path].shape
        bound = 1 / math.sqrt(math.prod(receptive))
        a = jax.random.uniform(fold(key, path), (*receptive, rank), jnp.float32, -bound, bound)
        leaves = a, jnp.zeros((rank, out), jnp.float32), jnp.asarray(alpha or rank, jnp.float32)
        flat |= {f"{path.removesuffix('/kernel')}/{name}": leaf for name, leaf in zip(LEAVES, leaves, strict=True)}
    return paths.nest(flat)


def delta(a: Array, b: Array, alpha: Array) -> Array:
    """(alpha / r) · A B: float32 [..., I, O], from A [..., I, r] and B [r, O]."""
    a, b = a.astype(jnp.float32), b.astype(jnp.float32)
    return jnp.asarray(alpha) / b.shape[0] * jnp.matmul(a, b, precision="highest")


def merged(params: Params) -> Params:
    """The parameters that modules read; pure. Kernels keep their dtypes; trees without adapters are returned as is."""
    flat = paths.flatten(params)
    if not (found := sites(flat)):
        return params
    for site in found:
        adapter = (flat.pop(f"{site}/{name}") for name in LEAVES)
        kernel = flat[f"{site}/kernel"]
        flat[f"{site}/kernel"] = (kernel.astype(jnp.float32) + delta(*adapter)).astype(kernel.dtype)
    return paths.nest(flat)


def apply(params: Params) -> Params:
    """`merged` of arrays, in one compiled program; kernels that several devices hold keep their shardings."""
    flat = paths.flatten(params)
    if not (found := sites(flat)):
        return params
    taken = [f"{site}/{name}" for site in found for name in (*LEAVES, "kernel")]
    adapted = paths.nest({path: flat.pop(path) for path in taken})
    bases = kernels(adapted)
    of_many = any(isinstance(w, jax.Array) and len(w.sharding.device_set) > 1 for w in bases.values())
    shardings = paths.nest({p: w.sharding for p, w in bases.items()}) if of_many else None
    once = compiled_for_one_call(sum(math.prod(w.shape) for w in bases.values()))
    return paths.nest(flat | paths.flatten(jax.jit(merged, out_shardings=shardings, compiler_options=once)(adapted)))


def adapters_of(params: Params) -> Params:
    """The tree of the adapters that are in a tree of parameters."""
    return paths.nest({path: leaf for path, leaf in paths.flatten(params).items() if path.split("/")[-1] in LEAVES})


def size(adapters: Params) -> int:
    """The number of trained parameters of a tree of adapters: those of A and B."""
    return sum(math.prod(x.shape) for p, x in paths.flatten(adapters).items() if not p.endswith(LEAVES[2]))


def combine(weighted: Iterable[tuple[Params, float]]) -> Params:
    """One tree of adapters, of numpy arrays, that adds the weighted sum Σ w · (alpha / r) · A B of several.

    Of a layer that one tree adapts only alpha is changed. Where several do, their A and B are concatenated along r.
    """
    found: dict[str, list[tuple[np.ndarray, np.ndarray, float]]] = {}
    for tree, weight in weighted:
        flat = paths.flatten(tree)
        for site in sites(flat):
            a, b, alpha = (np.asarray(flat[f"{site}/{name}"], np.float32) for name in LEAVES)
            found.setdefault(site, []).append((a, b, weight * float(alpha) / len(b)))
    flat = {}
    for site, several in found.items():
        a, b, scale = several[0]
        if len(several) > 1:
            a = np.concatenate([x for x, _, _ in several], axis=-1)
            b, scale = np.concatenate([x * np.float32(s) for _, x, s in several]), 1.0
        leaves = a, b, np.array(scale * len(b), np.float32)
        flat |= {f"{site}/{name}": leaf for name, leaf in zip(LEAVES, leaves, strict=True)}
    return paths.nest(flat)


def check(params: Params, adapters: Params, where: str) -> None:
    """Compares adapters with the kernels of a model.

    Args:
      params: {component: tree} of arrays or ShapeDtypeStructs.
      adapters: a tree of adapters.
      where: names them in messages.

    Raises:
      ConfigError: there is none, a kernel is missing or of another shape, or a rank is larger than both its widths.
    """
    bases, flat = kernels(params), paths.flatten(adapters)
    if not sites(flat):
        raise ConfigError(f"{where}: it has no adapter")
    for site in sites(flat):
        if f"{site}/kernel" not in bases:
            raise ConfigError(f"{where}: this model has no kernel {site}/kernel")
        *receptive, out = bases[f"{site}/kernel"].shape
        a, b = (tuple(flat[f"{site}/{name}"].shape) for name in LEAVES[:2])
        if a[:-1] != tuple(receptive) or b[1:] != (out,) or a[-1:] != b[:1]:
            raise ConfigError(f"{where}: {site} has A {list(a)} and B {list(b)} for a kernel {[*receptive, out]}")
        if not 1 <= b[0] <= max(receptive[-1], out):
            raise ConfigError(f"{where}: {site} has rank {b[0]} for a kernel {[*receptive, out]}")
