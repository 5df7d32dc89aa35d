"""Randomness folded by name.

Every random draw of a run is a pure function of (seed, names, step). Names are hashed, never enumerated, so that a
modality or a stage that is added changes nobody else's noise.
"""

import zlib

import jax


def fold(key: jax.Array, *tags: str | int | jax.Array) -> jax.Array:
    """Folds tags into a PRNG key: strings by their CRC-32, integers (traced ones too) as they are."""
    for tag in tags:
        key = jax.random.fold_in(key, zlib.crc32(tag.encode()) if isinstance(tag, str) else tag)
    return key
