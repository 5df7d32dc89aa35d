"""Checkpoints of pytrees by Orbax: strict, atomic, asynchronous. Independent of models."""

from codi_jax.checkpoint.checkpointer import Checkpointer
from codi_jax.checkpoint.components import CheckpointReader, load_params, read_meta, save_params
from codi_jax.checkpoint.index import CheckpointError, SaveError

__all__ = [
    "CheckpointError",
    "CheckpointReader",
    "Checkpointer",
    "SaveError",
    "load_params",
    "read_meta",
    "save_params",
]
