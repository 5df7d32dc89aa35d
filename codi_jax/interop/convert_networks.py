"""Converts public weights of feature networks to directories that are read without their formats.

    DIRECTORY/NAME/       {"params": {NAME: tree}}, float32; sha256 of the file is kept in its meta

`--networks=NAME=DIRECTORY` of `codi-jax evaluate`, `load_inception(DIRECTORY)` and `load_vggish(DIRECTORY)` read it.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from codi_jax import storage
from codi_jax.config import ConfigError
from codi_jax.interop.convert import Report, save_component
from codi_jax.interop.families import FEATURE_WEIGHTS, feature_weights
from codi_jax.interop.feature_weights import FeatureWeights, sha256
from codi_jax.interop.tensors import open_state

_Opened = tuple[FeatureWeights[Any], Path, dict[str, Any]]


def _open(files: Sequence[Path]) -> list[_Opened]:
    """The networks with their files and states.

    Raises:
      ConfigError: a file cannot be read, is not of a feature network, or is the second of one network.
    """
    states = {file: open_state(file) for file in files}
    found = {file: feature_weights(state) for file, state in states.items()}
    first = {network.name: file for file, network in reversed(found.items()) if network}
    out = []
    for file, network in found.items():
        if network is None and first:
            known = next(iter(first.values()))
            raise ConfigError(f"{file}: no feature network, as {known} is: convert them in two calls")
        if network is None:
            known = " nor ".join(weights.family.name for weights in FEATURE_WEIGHTS)
            needs = "needs --workdir=DIRECTORY of a run, or --config=NAME[:argument], for the model that it is for"
            raise ConfigError(f"{file}: neither {known}: {needs}")
        if first[network.name] != file:
            raise ConfigError(f"{file}: {network.family.name} is in {first[network.name]}, too; give one of the two")
        out.append((network, file, states[file]))
    return out


def convert_networks(files: Sequence[Path], directory: Path) -> Report:
    """Reads public weights of feature networks and writes them.

    Args:
      files: of networks of `families.FEATURE_WEIGHTS`, of each at most one.
      directory: networks are written to DIRECTORY/NAME; existing ones are replaced.

    Raises:
      ConfigError: a file cannot be read, does not fit, or is of something else; in this case nothing has been written.
      CheckpointError: a network cannot be written.
    """
    trees, ignored = [], {}
    for network, file, state in _open(files):
        try:
            params, unread = network.read(state, network.published)
        except ConfigError as error:
            raise type(error)(f"{file}: {error}") from None
        trees.append((network.name, network.tree(params), {"files": [file.name], "sha256": sha256(file)}))
        ignored |= unread
    where = storage.as_path(directory)
    return Report(tuple(save_component(where, name, tree, (), origin) for name, tree, origin in trees), ignored)
