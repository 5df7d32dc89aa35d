"""Randomness folded by name.

Every random draw of a run is a pure function of (seed, names, step). Names are hashed, not enumerated, so that adding a
modality or a stage does not change the noise of the others.
"""

import zlib

import jax


def fold(key: jax.Array, *tags: str | int | jax.Array) -> jax.Array:
    """Folds tags into a PRNG key: a string by its CRC-32, an integer (also a traced one) as it is."""
    for tag in tags:
        key = jax.random.fold_in(key, zlib.crc32(tag.encode()) if isinstance(tag, str) else tag)
    return key
