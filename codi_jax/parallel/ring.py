"""A ring of devices: every device meets the rows of every other one, and no device holds the rows of all.

Each device keeps its rows of a; the rows of b travel. In n steps of a ring of n devices each device computes its blocks
of a matrix of all pairs (a_i, b_j), so that its memory depends on the number of its own rows alone.
"""

from collections.abc import Callable

import jax

from codi_jax.types import PyTree


def scan_ring(
    block_fn: Callable[[PyTree, PyTree, PyTree], tuple[PyTree, PyTree]],
    a: PyTree,
    local: PyTree,
    travelling: PyTree,
    axes: tuple[str, ...],
) -> tuple[PyTree, PyTree]:
    """Calls local, travelling = block_fn(a, local, travelling) once per device of the ring, inside `jax.shard_map`.

    After each call `travelling`, which belongs to the rows of b, moves to the next device; at the end it is back where
    it started.

    Args:
      block_fn: computes one block.
      a: this device's rows of a.
      local: what is kept for the rows of a.
      travelling: the rows of b and what is kept for them.
      axes: mesh axes of the ring; none for a single block.

    Returns:
      `local` and `travelling` after all blocks.
    """
    if not axes:
        return block_fn(a, local, travelling)
    size = jax.lax.axis_size(axes)

    def ring_step(carry, _):
        local, travelling = block_fn(a, *carry)
        return (local, jax.lax.ppermute(travelling, axes, [(k, (k - 1) % size) for k in range(size)])), None

    return jax.lax.scan(ring_step, (local, travelling), length=size)[0]
