"""Randomness folded by name.

Every random draw of a run is a pure function of (seed, names, step). Names are hashed, not enumerated, so that adding a
modality or a stage does not change the noise of the others.
"""

import operator
import zlib

import jax

from codi_jax.config import ConfigError


def fold(key: jax.Array, *tags: str | int | jax.Array) -> jax.Array:
    """Folds tags into a PRNG key: a string by its CRC-32, an integer (also a traced one) as it is."""
    for tag in tags:
        key = jax.random.fold_in(key, zlib.crc32(tag.encode()) if isinstance(tag, str) else tag)
    return key


def check_seed(seed: int, where: str = "seed") -> int:
    """The seed as an int.

    Args:
      seed: an integer.
      where: its name, for the message.

    Raises:
      ConfigError: it is no integer, is negative or has more than 64 bits, of which some would not count.
    """
    try:
        number = operator.index(seed)
    except TypeError as error:
        raise ConfigError(f"{where}: expected an integer, got {seed!r}") from error
    if not 0 <= number < 1 << 64:
        raise ConfigError(f"{where}: expected 0 or more and at most 64 bits, got {number}")
    return number


def seed_key(seed: int) -> jax.Array:
    """The PRNG key of a seed of at most 64 bits: `jax.random.key` of the lower 32, the upper 32 folded in unless 0.

    (`jax.random.key` drops the upper ones without 64-bit types.)

    Raises:
      ConfigError: see `check_seed`.
    """
    number = check_seed(seed)
    key = jax.random.key(number & 0xFFFFFFFF)
    return jax.random.fold_in(key, number >> 32) if number >> 32 else key


def normal(key: jax.Array, n: int, shape: tuple[int, ...], *tags: str | int | jax.Array) -> jax.Array:
    """Standard normal noise [n, *shape] from a key folded with tags; from keys [n], every row from its own."""
    if key.ndim:
        return jax.vmap(lambda own: jax.random.normal(fold(own, *tags), shape))(key)
    return jax.random.normal(fold(key, *tags), (n, *shape))
