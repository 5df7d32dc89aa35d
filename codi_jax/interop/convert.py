"""Converts public checkpoints to component directories.

Files are mapped into memory and every tensor is checked once. Only if no check fails are the components written, one
after the other, each atomically. Tensors keep their dtype and all their bits, and only a few of them are in memory at a
time, so that checkpoints larger than memory can be converted.

    DIRECTORY/COMPONENT/       {"params": {COMPONENT: tree}, "constants": {COMPONENT: …}}, as training stages write them
"""

import collections
import dataclasses
import math
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from flax import traverse_util

from codi_jax import storage
from codi_jax.checkpoint import save_params
from codi_jax.codi import CoDi
from codi_jax.config import ConfigError, few
from codi_jax.interop import families, release
from codi_jax.interop.ema import with_ema
from codi_jax.interop.family import Found
from codi_jax.interop.names import NamesError, flatten, from_release, under
from codi_jax.interop.shards import checkpoints
from codi_jax.modalities.base import SIZES
from codi_jax.parallel import paths
from codi_jax.parallel.host import compiled_for_one_call
from codi_jax.parallel.tables import size, table
from codi_jax.rng import check_seed, fold, seed_key


@dataclasses.dataclass(frozen=True)
class Converted:
    """The result for one component.

    Attributes:
      component: its name.
      leaves: number of leaves.
      parameters: number of parameters of all leaves.
      bytes: size of all leaves.
      dtypes: dtype -> number of leaves.
      initialized: paths of the leaves that the files do not hold (completely), which were initialized.
    """

    component: str
    leaves: int
    parameters: int
    bytes: int
    dtypes: Mapping[str, int]
    initialized: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class Report:
    """The converted components, and the ignored keys (key -> reason)."""

    components: tuple[Converted, ...]
    ignored: Mapping[str, str]

    def __str__(self) -> str:
        rows = [("component", "leaves", "parameters", "bytes", "types", "initialized")]
        for c in self.components:
            types = ", ".join(c.dtypes)
            rows.append(
                (c.component, str(c.leaves), f"{c.parameters:,}", size(c.bytes), types, str(len(c.initialized)))
            )
        reasons = collections.Counter(self.ignored.values())
        lines = [table(rows, right=(1, 2, 3, 5))]
        lines += [f"ignored {count} keys: {why}" for why, count in reasons.items()]
        lines += [
            f"initialized in {c.component}, since the files do not hold it: {few(c.initialized, 4)}"
            for c in self.components
            if c.initialized
        ]
        return "\n".join(lines)


def init_leaves(codi: CoDi, component: str, wanted: Sequence[str], seed: int) -> dict[str, np.ndarray]:
    """Initializes some leaves of a component, by path; the compiler removes the other leaves' computations."""

    def make(key: jax.Array) -> dict[str, jax.Array]:
        flat = flatten(codi.init(key, (component,))[component])
        return {path: flat[path] for path in wanted}

    shapes = paths.flatten(codi.shapes(component))
    options = compiled_for_one_call(sum(math.prod(shapes[path].shape) for path in wanted))
    leaves = jax.jit(make, compiler_options=options)(fold(seed_key(seed), "convert"))
    return {path: np.asarray(leaf) for path, leaf in leaves.items()}


def read_release(
    codi: CoDi, state: Mapping[str, np.ndarray], wanted: Collection[str] | None = None
) -> tuple[dict[str, Found], dict[str, str]]:
    """Reads a state dict of the release.

    Args:
      codi: the model.
      state: the flat dictionary of its files.
      wanted: the components to read; all if None.

    Returns:
      Component -> its leaves; and ignored key -> reason.

    Raises:
      NamesError: naming the first missing, unexpected, misshaped, mistyped and non-finite tensors of each component.
    """
    reader = release.Reader(codi)
    by_component, others = reader.split(state)
    unexpected = list(others.get("unexpected", ()))
    problems = [f"{len(unexpected)} unexpected: {few(unexpected)}"] if unexpected else []
    found, ignored = {}, {key: why for kind in others.values() for key, why in kind.items()}
    for component, keys in by_component.items():
        if wanted is not None and component not in wanted:
            ignored |= dict.fromkeys(keys, f"of {component}, which --only leaves out")
            continue
        part = reader.parts[component]
        tensors = under({key: state[key] for key in keys}, part.prefix)
        try:
            tree = from_release(tensors, part.rules, codi.shapes(component), optional=part.optional, cast=False)
        except NamesError as error:
            problems.append(f"{component} ({part.prefix}…): {error}")
            continue
        held = flatten(tree).keys()
        found[component] = Found(tree, tuple(sorted(reader.leaves[component].keys() - held)), {})
    if problems:
        raise NamesError("; ".join(problems))
    return found, ignored


def _wanted(codi: CoDi, only: Collection[str]) -> set[str]:
    """The names of the components to read: those of `only`, by default all.

    Raises:
      ConfigError: the model has no such component.
    """
    known = codi.component_names()
    if unknown := [name for name in only if name not in known]:
        raise ConfigError(f"--only: no component {', '.join(unknown)}; this model has {', '.join(known)}")
    return set(only or known)


def _read_all(
    codi: CoDi, files: Sequence[Path], ema: bool, only: Collection[str]
) -> tuple[dict[str, Found], dict[str, str]]:
    """Reads all files; returns component -> its leaves, and ignored key -> reason."""
    of_release: dict[str, np.ndarray] = {}
    sources: list[tuple[str, dict[str, Found]]] = []
    ignored: dict[str, str] = {}
    wanted = _wanted(codi, only)
    targets = {component: codi.shapes(component) for component in codi.component_names() if component in wanted}
    configs = {
        c: getattr(codi[name].config, SIZES.get(role, role)) for c, (name, role) in codi.component_names().items()
    }
    for checkpoint in checkpoints(files):
        state, file = checkpoint.open(), checkpoint.path
        try:
            state = with_ema(state) if ema else state
            if any(key.startswith(release.ROOTS) for key in state) and families.family_of(state) is None:
                if duplicates := sorted(state.keys() & of_release.keys()):
                    raise ConfigError(f"{len(duplicates)} keys, such as {duplicates[0]}, are in another file, too")
                of_release |= state
                continue
            if network := families.feature_weights(state):
                what = f"{network.family.name} is no component of a CoDi model"
                raise ConfigError(f"{what}: convert it in a call of its own, without --config and --workdir")
            found, unread = families.read(families.recognise(state), state, configs, targets, cast=False)
        except ConfigError as error:
            raise ConfigError(f"{file}: {error}") from error
        sources.append((str(file), found))
        ignored |= unread
    if of_release:
        found, unread = read_release(codi, of_release, wanted)
        sources.append(("the release", found))
        ignored |= unread
    out: dict[str, Found] = {}
    for name, found in sources:
        for component, part in found.items():
            before = flatten(out[component].tree) if component in out else {}
            leaves = flatten(part.tree)
            if duplicates := sorted(before.keys() & leaves.keys()):
                raise ConfigError(f"{name}: {component}/{duplicates[0]} is in another file, too; give one of the two")
            merged = {**before, **leaves}
            missing = sorted(paths.flatten(targets[component]).keys() - merged.keys())
            rows = {**(out[component].rows if component in out else {}), **part.rows}
            out[component] = Found(traverse_util.unflatten_dict(merged, sep="/"), tuple(missing), rows)
    return out, ignored


def save_component(
    directory: Path, component: str, tree: Mapping[str, Any], initialized: tuple[str, ...], origin: Mapping[str, Any]
) -> Converted:
    """Writes one component.

    Args:
      directory: it is written to DIRECTORY/COMPONENT; an existing one is replaced.
      component: its name.
      tree: {"params": {COMPONENT: tree}} and constants.
      initialized: paths of the leaves that the files do not hold (completely).
      origin: where the leaves are from, JSON types.

    Raises:
      CheckpointError: it cannot be written.
    """
    meta = {"components": [component], "fresh": list(initialized), **origin}
    save_params(str(directory / component), dict(tree), meta)
    leaves = flatten(tree["params"][component]).values()
    dtypes = dict(collections.Counter(str(leaf.dtype) for leaf in leaves))
    parameters, nbytes = sum(x.size for x in leaves), sum(x.nbytes for x in leaves)
    return Converted(component, len(leaves), parameters, nbytes, dtypes, initialized)


def write(
    codi: CoDi, found: Mapping[str, Found], directory: Path, origin: Mapping[str, Any], seed: int
) -> tuple[Converted, ...]:
    """Writes components; leaves and rows that the files do not hold are initialized.

    Raises:
      CheckpointError: a component cannot be written.
    """
    done = []
    for component, part in found.items():
        flat = flatten(part.tree)
        initialized = (*part.missing, *part.rows)
        if initialized:
            values = init_leaves(codi, component, initialized, seed)
            flat |= {path: values[path] for path in part.missing}
            flat |= {path: np.concatenate([flat[path], values[path][n:]]) for path, n in part.rows.items()}
        out: dict[str, Any] = {"params": {component: traverse_util.unflatten_dict(flat, sep="/")}}
        if constants := release.constants(codi, component):
            out["constants"] = {component: constants}
        done.append(save_component(directory, component, out, initialized, origin))
    return tuple(done)


def convert(
    codi: CoDi,
    files: Sequence[Path],
    directory: Path,
    seed: int = 0,
    ema: bool = False,
    only: Collection[str] = (),
) -> Report:
    """Reads public checkpoints and writes the components that they hold.

    Args:
      codi: the model.
      files: any of the release's four files, or files of the layouts in `families`; two files may hold two parts of one
        component. Each is a file, a shard beside the others, their index, or a folder: see `interop.shards`.
      directory: components are written to DIRECTORY/COMPONENT; existing ones are replaced.
      seed: for the initialization of leaves that the files do not hold.
      ema: read moving averages in place of the weights that have them (`interop.ema`).
      only: names of the components to read; by default all that the files hold.

    Raises:
      ConfigError: a file cannot be read or does not fit the model; in this case nothing has been written.
      CheckpointError: a component cannot be written.
    """
    check_seed(seed, "--seed")
    found, ignored = _read_all(codi, files, ema, only)
    if not found:
        why = "".join(f"; ignored keys {why}" for why in dict.fromkeys(ignored.values()))
        raise ConfigError(f"{', '.join(map(str, files))}: no component of this model found{why}")
    origin = {"files": [Path(file).name for file in files], "ema": ema}
    return Report(write(codi, found, storage.as_path(directory), origin, seed), ignored)
