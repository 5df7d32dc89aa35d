"""Trees of many small leaves as a few vectors, for what is done to every number alike.

Clipping, the optimizer, the average and the test for finiteness are some 40 operations a leaf, so a network of hundreds
of small leaves spends more compilation on them than on itself. Packed, all leaves that are treated alike (by type,
decay and learning rate) lie end to end in vectors of up to LENGTH numbers, and these operations are over a few vectors.
The same functions of the tree serve both forms: what they map over is a tree of leaves or a tree of vectors.

    loss(unpacked(params)), differentiated with respect to the vectors: leaves are split off them, so gradients come
    back joined

Vectors are no longer than that because an update passes over them some twenty times: of what fits into a core's cache
only the first pass waits for memory. Larger leaves stay alone; a copy of them would cost memory, and they are never
many. Vectors are a matter of the running program; checkpoints hold trees, so that a run can go on where parameters are
split over devices.
"""

import dataclasses
import math
from collections.abc import Callable, Hashable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

LENGTH = 1 << 16


@dataclasses.dataclass(frozen=True)
class Layout:
    """Which leaves of a tree, by their place in `jax.tree.leaves`, each vector holds, in which shapes.

    `joined[k]` are the leaves of vector k; one that is alone keeps its shape.
    """

    treedef: jax.tree_util.PyTreeDef
    shapes: tuple[tuple[int, ...], ...]
    joined: tuple[tuple[int, ...], ...]

    @classmethod
    def of(cls, tree: Any, kind: Callable[[int], Hashable], length: int = LENGTH) -> "Layout":
        """The layout for trees like `tree`, arrays or ShapeDtypeStructs.

        Args:
          tree: the tree.
          kind: the place of a leaf -> what has to agree, beside the type, for leaves to be joined.
          length: the most numbers in a vector of several leaves.
        """
        leaves, treedef = jax.tree.flatten(tree)
        joined: list[list[int]] = []
        open_: dict[Hashable, tuple[list[int], int]] = {}  # kind -> the vector that takes more, and how many it has
        for i, leaf in enumerate(leaves):
            key, size = (leaf.dtype.name, kind(i)), math.prod(leaf.shape)
            own, held = open_.get(key, ([], length))
            if held + size > length:
                own, held = [], 0
                joined.append(own)
            own.append(i)
            open_[key] = own, held + size
        return cls(treedef, tuple(tuple(leaf.shape) for leaf in leaves), tuple(map(tuple, joined)))

    def first(self, tree: Any) -> "Packed":
        """What a tree has at the first leaf of each vector; it stands for all of them where `kind` told them apart."""
        leaves = self.treedef.flatten_up_to(tree)
        return Packed([leaves[own[0]] for own in self.joined], self)

    def pack(self, tree: Any) -> "Packed":
        """Joins the leaves of a tree of jax or of numpy arrays."""
        leaves = self.treedef.flatten_up_to(tree)
        numpy = all(isinstance(leaf, np.ndarray) for leaf in leaves)
        join = np.concatenate if numpy else jnp.concatenate
        return Packed(
            [leaves[own[0]] if len(own) == 1 else join([leaves[i].reshape(-1) for i in own]) for own in self.joined],
            self,
        )


@dataclasses.dataclass
class Packed:
    """The vectors of a tree; a pytree of them, so that they can be mapped over as the tree can."""

    vectors: list[Any]
    layout: Layout

    def unpack(self) -> Any:
        """The tree: of numpy arrays, views of the vectors if these are numpy's; inside a jitted function otherwise."""
        leaves: list[Any] = [None] * len(self.layout.shapes)
        for vector, own in zip(self.vectors, self.layout.joined, strict=True):
            shapes = [self.layout.shapes[i] for i in own]
            if len(own) == 1:
                parts = [vector]
            elif isinstance(vector, np.ndarray):
                parts = np.split(vector, np.cumsum([math.prod(shape) for shape in shapes])[:-1])
            else:
                parts = jax.lax.split(vector, [math.prod(shape) for shape in shapes])
            for i, part, shape in zip(own, parts, shapes, strict=True):
                leaves[i] = part.reshape(shape)
        return self.layout.treedef.unflatten(leaves)


jax.tree_util.register_dataclass(Packed, data_fields=["vectors"], meta_fields=["layout"])


def _is_packed(node: Any) -> bool:
    return isinstance(node, Packed)


def unpacked(tree: Any) -> Any:
    """`tree` with a tree for each `Packed` in it."""
    return jax.tree.map(lambda node: node.unpack() if _is_packed(node) else node, tree, is_leaf=_is_packed)


def packed_like(like: Any, tree: Any) -> Any:
    """The inverse of `unpacked`: `tree` packed where `like` is."""
    return jax.tree.map(
        lambda node, part: node.layout.pack(part) if _is_packed(node) else part, like, tree, is_leaf=_is_packed
    )
