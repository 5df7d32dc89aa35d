"""Packing trees of many small leaves into a few vectors, for element-wise operations.

Clipping, the optimizer, the EMA and the finiteness check take some 40 operations per leaf, so a network with hundreds
of small leaves spends more compile time on them than on its forward and backward pass. Packing concatenates leaves of
the same dtype, decay and learning rate into vectors of up to LENGTH elements, and these operations apply to a few
vectors. The same `jax.tree.map` code serves both forms: a tree of leaves or a tree of vectors.

    loss(unpacked(params)) is differentiated with respect to the vectors, so gradients are packed, too

LENGTH is limited because an update passes over a vector some twenty times: if it fits in a core's cache, only the first
pass reads from memory. Larger leaves are not concatenated: copies of them would cost memory, and there are few. Only
the running program packs; checkpoints hold trees, so that a run can be resumed on a mesh that shards parameters.
"""

import dataclasses
import math
from collections.abc import Callable, Hashable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from codi_jax.types import PyTree, PyTreeDef

LENGTH = 1 << 16


@dataclasses.dataclass(frozen=True)
class VectorLayout:
    """The leaves of each vector.

    Attributes:
      treedef: of the tree.
      shapes: shape of each leaf, in the order of `jax.tree.leaves`.
      joined: for each vector, the indices of its leaves. A vector with a single leaf keeps the leaf's shape.
    """

    treedef: PyTreeDef
    shapes: tuple[tuple[int, ...], ...]
    joined: tuple[tuple[int, ...], ...]

    @classmethod
    def of(cls, tree: PyTree, kind: Callable[[int], Hashable], length: int = LENGTH) -> "VectorLayout":
        """The layout for trees like `tree`, arrays or ShapeDtypeStructs.

        Args:
          tree: the tree.
          kind: index of a leaf -> a key; leaves share a vector only if their keys and dtypes are equal.
          length: maximum number of elements of a vector with several leaves.
        """
        leaves, treedef = jax.tree.flatten(tree)
        joined: list[list[int]] = []
        open_: dict[Hashable, tuple[list[int], int]] = {}  # key -> the vector that is not full, and its size
        for i, leaf in enumerate(leaves):
            key, size = (leaf.dtype.name, kind(i)), math.prod(leaf.shape)
            indices, filled = open_.get(key, ([], length))
            if filled + size > length:
                indices, filled = [], 0
                joined.append(indices)
            indices.append(i)
            open_[key] = indices, filled + size
        return cls(treedef, tuple(tuple(leaf.shape) for leaf in leaves), tuple(map(tuple, joined)))

    def first(self, tree: PyTree) -> "Packed":
        """The value of `tree` at the first leaf of each vector, for trees that are constant over a vector's leaves."""
        leaves = self.treedef.flatten_up_to(tree)
        return Packed([leaves[indices[0]] for indices in self.joined], self)

    def pack(self, tree: PyTree) -> "Packed":
        """Packs a tree of jax or of numpy arrays."""
        leaves = self.treedef.flatten_up_to(tree)
        numpy = all(isinstance(leaf, np.ndarray) for leaf in leaves)
        join = np.concatenate if numpy else jnp.concatenate
        return Packed(
            [leaves[k[0]] if len(k) == 1 else join([leaves[i].reshape(-1) for i in k]) for k in self.joined],
            self,
        )


@dataclasses.dataclass
class Packed:
    """The vectors of a tree, as a pytree node."""

    vectors: list[Any]
    layout: VectorLayout

    def unpack(self) -> PyTree:
        """The tree. Leaves of numpy vectors are views; jax vectors should be unpacked inside a jitted function."""
        leaves: list[Any] = [None] * len(self.layout.shapes)
        for vector, indices in zip(self.vectors, self.layout.joined, strict=True):
            shapes = [self.layout.shapes[i] for i in indices]
            if len(indices) == 1:
                parts = [vector]
            elif isinstance(vector, np.ndarray):
                parts = np.split(vector, np.cumsum([math.prod(shape) for shape in shapes])[:-1])
            else:
                parts = jax.lax.split(vector, [math.prod(shape) for shape in shapes])
            for i, part, shape in zip(indices, parts, shapes, strict=True):
                leaves[i] = part.reshape(shape)
        return self.layout.treedef.unflatten(leaves)


jax.tree_util.register_dataclass(Packed, data_fields=["vectors"], meta_fields=["layout"])


def _is_packed(node: object) -> bool:
    return isinstance(node, Packed)


def unpacked(tree: PyTree) -> PyTree:
    """`tree` with every `Packed` node unpacked."""
    return jax.tree.map(lambda node: node.unpack() if _is_packed(node) else node, tree, is_leaf=_is_packed)


def packed_like(like: PyTree, tree: PyTree) -> PyTree:
    """The inverse of `unpacked`: `tree` packed where `like` is."""
    return jax.tree.map(
        lambda node, part: node.layout.pack(part) if _is_packed(node) else part, like, tree, is_leaf=_is_packed
    )
