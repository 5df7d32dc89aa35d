"""Public checkpoints to components on disk, leaf by leaf.

Files are mapped into memory, names are sorted, every tensor is looked at once; only if all is well is anything
written, one component after the other, each whole or not at all. A tensor keeps its type to the last bit, and no more
than a few of them are ever in memory, so that a laptop converts what it could not hold.

    DIRECTORY/COMPONENT/       {"params": {COMPONENT: tree}, "constants": {COMPONENT: …}}, as the stages of a recipe
"""

import collections
import dataclasses
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from flax import traverse_util

from codi_jax import storage
from codi_jax.checkpoint import save_params
from codi_jax.codi import CoDi
from codi_jax.config import ConfigError
from codi_jax.interop import families, release
from codi_jax.interop.family import Found
from codi_jax.interop.names import NamesError, from_release, under
from codi_jax.interop.tensors import open_state
from codi_jax.parallel import paths
from codi_jax.parallel.host import compiled_for_one_call
from codi_jax.parallel.tables import size, table
from codi_jax.rng import fold


@dataclasses.dataclass(frozen=True)
class Converted:
    """What became of one component.

    Attributes:
      component: its name.
      leaves: their number; parameters and bytes, of all of them.
      dtypes: of its leaves, by number of leaves.
      initialized: paths of leaves that the files do not hold, and which were initialised.
    """

    component: str
    leaves: int
    parameters: int
    bytes: int
    dtypes: Mapping[str, int]
    initialized: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class Report:
    """What was converted, and what was left aside and why (key -> reason)."""

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
        lines += [f"left aside: {count} keys: {why}" for why, count in reasons.items()]
        lines += [
            f"initialised in {c.component}, since the files do not hold it: {_few(c.initialized)}"
            for c in self.components
            if c.initialized
        ]
        return "\n".join(lines)


def _few(initialized: Sequence[str], shown: int = 4) -> str:
    """A few of the paths and how many more there are."""
    return ", ".join(initialized[:shown]) + (
        f" and {len(initialized) - shown} more" if len(initialized) > shown else ""
    )


def init_leaves(codi: CoDi, component: str, wanted: Sequence[str], seed: int) -> dict[str, np.ndarray]:
    """Fresh values of some leaves of a component by path; the compiler drops what they do not need."""

    def make(key: jax.Array) -> dict[str, jax.Array]:
        flat = traverse_util.flatten_dict(codi.init(key, (component,))[component], sep="/")
        return {path: flat[path] for path in wanted}

    shapes = paths.flatten(codi.shapes(component))
    options = compiled_for_one_call(sum(math.prod(shapes[path].shape) for path in wanted))
    made = jax.jit(make, compiler_options=options)(fold(jax.random.key(seed), "convert"))
    return {path: np.asarray(leaf) for path, leaf in made.items()}


def read_release(codi: CoDi, state: Mapping[str, np.ndarray]) -> tuple[dict[str, Found], dict[str, str]]:
    """The components that a state of the release holds, and what was left aside and why.

    Raises:
      NamesError: naming whatever is missing, unexpected, misshaped, mistyped or not finite, of all components at once.
    """
    reader = release.Reader(codi)
    mine, others = reader.split(state)
    problems = [f"unexpected: {', '.join(others['unexpected'])}"] if "unexpected" in others else []
    found = {}
    for component, keys in mine.items():
        part = reader.parts[component]
        own = under({key: state[key] for key in keys}, part.prefix)
        try:
            tree = from_release(own, part.rules, codi.shapes(component), optional=part.optional, cast=False)
        except NamesError as error:
            problems.append(f"{component} ({part.prefix}…): {error}")
            continue
        held = traverse_util.flatten_dict(tree, sep="/").keys()
        found[component] = Found(tree, tuple(sorted(reader.leaves[component].keys() - held)), {})
    if problems:
        raise NamesError("; ".join(problems))
    return found, {key: why for kind in others.values() for key, why in kind.items()}


def _read_all(codi: CoDi, files: Sequence[Path]) -> tuple[dict[str, Found], dict[str, str]]:
    """What some files hold of every component, together, and what was left aside and why."""
    of_release: dict[str, np.ndarray] = {}
    sources: list[tuple[str, dict[str, Found]]] = []
    ignored: dict[str, str] = {}
    targets = {component: codi.shapes(component) for component in codi.component_names()}
    configs = {
        c: getattr(codi[name].config, "denoiser" if role == "cross" else role)
        for c, (name, role) in codi.component_names().items()
    }
    for file in files:
        state = open_state(file)
        if any(key.startswith(release.ROOTS) for key in state):
            if twice := sorted(state.keys() & of_release.keys()):
                raise ConfigError(f"{file}: {len(twice)} keys, {twice[0]} the first, are in another of the files, too")
            of_release |= state
            continue
        try:
            found, left = families.read(families.recognise(state), state, configs, targets, cast=False)
        except ConfigError as error:
            raise ConfigError(f"{file}: {error}") from error
        sources.append((str(file), found))
        ignored |= left
    if of_release:
        found, left = read_release(codi, of_release)
        sources.append(("the release", found))
        ignored |= left
    out: dict[str, Found] = {}
    for name, found in sources:
        for component, part in found.items():
            before = traverse_util.flatten_dict(out[component].tree, sep="/") if component in out else {}
            own = traverse_util.flatten_dict(part.tree, sep="/")
            if twice := sorted(before.keys() & own.keys()):
                raise ConfigError(f"{name}: {component}/{twice[0]} is in another of the files, too; give one of them")
            whole = {**before, **own}
            missing = sorted(paths.flatten(targets[component]).keys() - whole.keys())
            rows = {**(out[component].rows if component in out else {}), **part.rows}
            out[component] = Found(traverse_util.unflatten_dict(whole, sep="/"), tuple(missing), rows)
    return out, ignored


def write(
    codi: CoDi, found: Mapping[str, Found], directory: Path, origin: Mapping[str, Any], seed: int
) -> tuple[Converted, ...]:
    """Writes components, each completed by initialized values of what was not found of it.

    Raises:
      CheckpointError: they cannot be written.
    """
    done = []
    for component, part in found.items():
        flat = traverse_util.flatten_dict(part.tree, sep="/")
        initialized = (*part.missing, *part.rows)
        if initialized:
            made = init_leaves(codi, component, initialized, seed)
            flat |= {path: made[path] for path in part.missing}
            flat |= {path: np.concatenate([flat[path], made[path][n:]]) for path, n in part.rows.items()}
        out: dict[str, Any] = {"params": {component: traverse_util.unflatten_dict(flat, sep="/")}}
        if constants := release.constants(codi, component):
            out["constants"] = {component: constants}
        meta = {"components": [component], "fresh": list(initialized), **origin}
        save_params(str(directory / component), out, meta)
        leaves = flat.values()
        dtypes = dict(collections.Counter(str(leaf.dtype) for leaf in leaves))
        done.append(
            Converted(
                component, len(flat), sum(x.size for x in leaves), sum(x.nbytes for x in leaves), dtypes, initialized
            )
        )
    return tuple(done)


def convert(codi: CoDi, files: Sequence[Path], directory: Path, seed: int = 0) -> Report:
    """Reads public checkpoints and writes the components that they hold.

    Args:
      codi: the model whose components they are to be.
      files: of the release, any of its four, or of the families of `families`; two may hold halves of one component.
      directory: what is made stands at DIRECTORY/COMPONENT, in place of what was there.
      seed: of leaves that the files do not hold.

    Raises:
      ConfigError: a file that cannot be read, or that does not fit the model; nothing has been written then.
      CheckpointError: the components cannot be written.
    """
    found, ignored = _read_all(codi, files)
    if not found:
        raise ConfigError(f"{', '.join(map(str, files))}: nothing in it is of a component of this model")
    origin = {"files": [Path(file).name for file in files]}
    return Report(write(codi, found, storage.as_path(directory), origin, seed), ignored)
