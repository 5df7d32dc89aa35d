"""Where a stage, and whoever generates, takes its variables from.

    {"params": {component: tree}, "constants": {component: tree}}

Parameters come from the latest stage that made their component, from `config.weights`, or are drawn afresh; either way
each goes straight into its sharding: beside what stays there, a host holds no more than a few of them at a time.
"""

import dataclasses
import math
from collections.abc import Callable, Iterable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from codi_jax.checkpoint import Leaves
from codi_jax.config import ConfigError
from codi_jax.parallel import make_mesh, paths, resolve
from codi_jax.parallel.host import compiled_for_one_call
from codi_jax.train.recipe import Run

ShardingFn = Callable[[Any], Any]  # a tree of shapes -> a tree of shardings


def make_sharding_fn(run: Run, mesh: Mesh) -> ShardingFn:
    """Shardings by the rules of the run."""
    return lambda shapes: resolve(shapes, mesh, run.config.sharding)[0]


def assemble(
    run: Run,
    stages: tuple[str, ...],
    components: tuple[str, ...] | None = None,
    dtype: Any = np.float32,
    sharding_fn: ShardingFn | None = None,
) -> dict[str, Any]:
    """Parameters and constants that finished stages made or `config.weights` holds.

    Args:
      run: the run.
      stages: finished stages in the recipe's order; the latest that made a component counts.
      components: which (all that there are if None).
      dtype: of the parameters, whatever they are stored in; constants are as they are.
      sharding_fn: {component: tree of shapes} -> the shardings into which parameters are read. If None, parameters are
        on the default device and not committed to it, so that a compiled program can be reused for all inputs.

    Raises:
      ConfigError: a component that no stage has made.
    """
    providers = run.component_sources(stages)
    if components is not None:
        for component in components:
            if component not in providers:
                raise ConfigError(f"no finished stage has made {component!r}; there are {', '.join(providers)}")
    chosen = {c: s for c, s in providers.items() if components is None or c in components}
    params, constants = {}, run.codi.default_constants()
    for directory in dict.fromkeys(chosen.values()):
        saved = Leaves(str(directory))
        own = [component for component, provider in chosen.items() if provider == directory]
        have = paths.nest({path: leaf for path, leaf in saved.shapes.items() if path.split("/")[1] in own})
        shapes = have.get("params", {})
        if empty := [component for component in own if component not in shapes]:
            raise ConfigError(f"{directory} names {', '.join(empty)} and holds no parameters of it")
        check(run, shapes)
        numbers = saved.read_into(paths.flatten({"constants": have.get("constants", {})}))
        constants |= paths.nest({path.removeprefix("constants/"): x for path, x in numbers.items()})
        if sharding_fn is None:
            flat = {path: jnp.asarray(saved.read(f"params/{path}"), dtype) for path in paths.flatten(shapes)}
        else:
            wanted = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, dtype), shapes)
            wanted = jax.tree.map(lambda x, to: x.update(sharding=to), wanted, sharding_fn(wanted))
            flat = {p.removeprefix("params/"): x for p, x in saved.read_into(paths.flatten({"params": wanted})).items()}
        params |= paths.nest(flat)
    return {"params": params, "constants": jax.tree.map(jnp.asarray, constants)}


def init_sharded(make: Callable[[jax.Array], dict], key: jax.Array, sharding_fn: ShardingFn | None) -> dict:
    """Fresh parameters, each made where it is to be; see `assemble`."""
    shapes = jax.eval_shape(make, key)
    options = compiled_for_one_call(sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(shapes)))
    where = {} if sharding_fn is None else {"out_shardings": sharding_fn(shapes)}
    return jax.jit(make, compiler_options=options, **where)(key)


def check(run: Run, params: dict[str, Any]) -> None:
    """Compares components with the model of the config.

    Raises:
      ConfigError: the first leaf that is missing, extra or of another shape, by its path.
    """
    for component in (c for c in params if c in run.codi.component_names()):
        tree = run.codi.shapes(component)
        have = {jax.tree_util.keystr(p): x.shape for p, x in jax.tree.leaves_with_path(params[component])}
        want = {jax.tree_util.keystr(p): x.shape for p, x in jax.tree.leaves_with_path(tree)}
        for path in sorted(have.keys() | want.keys()):
            if have.get(path) != want.get(path):
                raise ConfigError(
                    f"component {component}{path}: the checkpoint has {have.get(path)}, the config {want.get(path)}"
                )


def copy_matching(fresh: dict[str, Any], other: dict[str, Any], where: str) -> dict[str, Any]:
    """`fresh` with every leaf of `other` that has its path and shape.

    Raises:
      ConfigError: there is none.
    """
    theirs = paths.flatten(other)
    mine = paths.flatten(fresh)
    shared = {path: leaf for path, leaf in theirs.items() if path in mine and mine[path].shape == leaf.shape}
    if not shared:
        raise ConfigError(f"{where}: the two components have no parameter in common")
    return paths.nest({**mine, **shared})


def variables_of(run: Run) -> dict[str, Any]:
    """The components of the model that the finished stages made, for generation."""
    stages = run.finished_stages()
    own = tuple(c for c in run.component_sources(stages) if c in run.codi.component_names())
    return assemble(run, stages, own)


def component_reader(
    run: Run, random: bool = False, wanted: Iterable[str] = ()
) -> Callable[[tuple[str, ...]], dict[str, Any]]:
    """A function of names of components that reads just these, in the model's compute type.

    They are split as the run's mesh and rules say, over 'fsdp' only if it is given; a mesh of 'data' alone would only
    repeat them, so one device then has them all, as it has where a run was trained on other devices than are here. With
    `random`, what neither a finished stage nor `config.weights` has is drawn by the run's seed.

    Raises:
      ConfigError: a component of `wanted` that is nowhere, or (the function) of those asked for.
    """
    stages = run.finished_stages()
    dtype = jnp.dtype(run.codi.config.dtype)
    providers = run.component_sources(stages)
    sharding_fn = None
    try:
        mesh = make_mesh(dataclasses.replace(run.config.mesh, fsdp=run.config.mesh.fsdp or 1))
        sharding_fn = make_sharding_fn(run, mesh) if mesh.size > mesh.shape["data"] else None
    except ConfigError:
        if run.workdir is None:  # the mesh was asked for now
            raise

    def absent(components: Iterable[str]) -> tuple[str, ...]:
        missing = tuple(dict.fromkeys(c for c in components if c not in providers))
        if missing and not random:
            raise ConfigError(
                f"nothing has made {', '.join(missing)}: train it, name converted weights "
                "(--config.weights=DIRECTORY), or take --random-weights to see the machinery run"
            )
        return missing

    def read(components: tuple[str, ...]) -> dict[str, Any]:
        missing = absent(components)
        variables = assemble(run, stages, tuple(c for c in components if c in providers), dtype, sharding_fn)
        for component in missing:

            def draw(key: jax.Array, component: str = component) -> dict:
                made = run.codi.init(key, (component,))
                return jax.tree.map(lambda x: x.astype(dtype), made)

            variables["params"] |= init_sharded(draw, jax.random.key(run.config.seed), sharding_fn)
        return variables

    absent(wanted)
    return read
