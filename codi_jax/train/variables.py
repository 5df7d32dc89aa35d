"""Loading and initializing variables, for training and generation.

    {"params": {component: tree}, "constants": {component: tree}}

Parameters are read from the last stage that trained their component or from `config.weights`, or are initialized. Each
goes directly into its sharding, so that a host never holds more than its shards and a few whole arrays.
"""

import dataclasses
import math
from collections.abc import Callable, Iterable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from codi_jax.checkpoint import CheckpointReader
from codi_jax.config import ConfigError
from codi_jax.nn import lora
from codi_jax.optim import merge
from codi_jax.packaged import PackageReader, is_package, open_package
from codi_jax.parallel import MeshConfig, make_mesh, paths, resolve
from codi_jax.parallel.host import compiled_for_one_call
from codi_jax.rng import seed_key
from codi_jax.train.recipe import Run
from codi_jax.types import Params

ShardingFn = Callable[[Any], Any]  # a tree of shapes -> a tree of shardings


def make_sharding_fn(run: Run, mesh: Mesh) -> ShardingFn:
    """A function that resolves shardings on a mesh by the sharding rules of the run."""
    return lambda shapes: resolve(shapes, mesh, run.config.sharding)[0]


def assemble(
    run: Run,
    stages: tuple[str, ...],
    components: tuple[str, ...] | None = None,
    dtype: Any = np.float32,
    sharding_fn: ShardingFn | None = None,
) -> dict[str, Any]:
    """Reads parameters and constants of finished stages and of `config.weights`; adapters kept apart are added.

    Args:
      run: the run.
      stages: finished stages in the recipe's order; a component is read from the last that trained it.
      components: which to read; all that there are if None.
      dtype: to which parameters are cast; constants keep theirs.
      sharding_fn: {component: tree of shapes} -> the shardings into which parameters are read. If None, parameters are
        on the default device and not committed to it, so that a compiled program can be reused for all inputs.

    Raises:
      ConfigError: no stage has trained a component, or its parameters do not have the shapes of the model.
    """
    sources = run.component_sources(stages)
    if components is not None:
        for component in components:
            if component not in sources:
                trained = ", ".join(sources) or "none"
                raise ConfigError(f"no finished stage has trained {component!r}; there are {trained}")
    selected = {c: s for c, s in sources.items() if components is None or c in components}
    params, constants = {}, run.codi.default_constants()
    for directory in dict.fromkeys(selected.values()):
        packed = is_package(directory)
        saved = PackageReader(open_package(str(directory))) if packed else CheckpointReader(str(directory))
        names = [component for component, source in selected.items() if source == directory]
        tree = paths.nest({path: leaf for path, leaf in saved.shapes.items() if path.split("/")[1] in names})
        shapes = tree.get("params", {})
        if empty := [component for component in names if component not in shapes]:
            raise ConfigError(f"{directory} lists {', '.join(empty)} but holds no parameters of it")
        check(run, shapes)
        numbers = saved.read_into(paths.flatten({"constants": tree.get("constants", {})}))
        constants |= paths.nest({path.removeprefix("constants/"): x for path, x in numbers.items()})
        if sharding_fn is None:
            flat = {path: jnp.asarray(saved.read(f"params/{path}"), dtype) for path in paths.flatten(shapes)}
        else:
            target = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, dtype), shapes)
            target = jax.tree.map(lambda x, to: x.update(sharding=to), target, sharding_fn(target))
            flat = {p.removeprefix("params/"): x for p, x in saved.read_into(paths.flatten({"params": target})).items()}
        params |= paths.nest(flat)
    adapters, changed = read_adapters(run, stages, params)
    if adapters:
        params, constants = lora.apply(merge(params, adapters)), constants | changed
    return {"params": params, "constants": jax.tree.map(jnp.asarray, constants)}


def read_adapters(run: Run, stages: tuple[str, ...], params: Params) -> tuple[Params, dict[str, Any]]:
    """The adapters of components that finished stages and the run of `config.weights` keep apart, on the host.

    Args:
      run: the run.
      stages: finished stages.
      params: {component: tree} of arrays or ShapeDtypeStructs, of the components whose adapters are read.

    Returns:
      The tree of adapters, those of several stages combined; and the constants of adapted components, by component.

    Raises:
      ConfigError: an adapter does not fit the model.
    """
    trees, constants = [], {}
    for component, directories in run.adapter_sources(stages).items():
        for directory in directories if component in params else ():
            saved = CheckpointReader(str(directory))
            mine = f"lora/{component}/", f"constants/{component}/"
            found = saved.read_into({path: x for path, x in saved.shapes.items() if path.startswith(mine)})
            tree = paths.nest(found)
            lora.check({component: params[component]}, tree.get("lora", {}), str(directory))
            trees.append((tree["lora"], 1.0))
            constants |= tree.get("constants", {})
    return lora.combine(trees), constants


def all_adapters(run: Run) -> Params:
    """The adapters that the finished stages of a run keep apart.

    Raises:
      ConfigError: there are none, or they have constants beside them, which a tree of adapters does not hold.
    """
    stages = run.finished_stages()
    known, where = run.codi.component_names(), run.workdir or run.config.weights
    shapes = {c: run.codi.shapes(c) for c in run.adapter_sources(stages) if c in known}
    tree, constants = read_adapters(run, stages, shapes)
    if not tree:
        raise ConfigError(f"{where}: no finished stage of this run keeps adapters apart (stages.*.lora)")
    if constants:
        what = ", ".join(constants)
        raise ConfigError(f"{where}: the constants of {what} changed with the adapters; use num_stats_samples=0")
    return tree


def init_sharded(make: Callable[[jax.Array], dict], key: jax.Array, sharding_fn: ShardingFn | None) -> dict:
    """The parameters `make(key)`, initialized directly in their shardings; for `sharding_fn` see `assemble`."""
    shapes = jax.eval_shape(make, key)
    options = compiled_for_one_call(sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(shapes)))
    where = {} if sharding_fn is None else {"out_shardings": sharding_fn(shapes)}
    return jax.jit(make, compiler_options=options, **where)(key)


def check(run: Run, params: dict[str, Any]) -> None:
    """Compares the shapes of components with the model of the config.

    Raises:
      ConfigError: a leaf is missing, extra or of another shape; the message names the first one.
    """
    for component in (c for c in params if c in run.codi.component_names()):
        tree = run.codi.shapes(component)
        saved = {jax.tree_util.keystr(p): x.shape for p, x in jax.tree.leaves_with_path(params[component])}
        expected = {jax.tree_util.keystr(p): x.shape for p, x in jax.tree.leaves_with_path(tree)}
        for path in sorted(saved.keys() | expected.keys()):
            if saved.get(path) != expected.get(path):
                raise ConfigError(
                    f"component {component}{path}: the checkpoint has shape {saved.get(path)}, the config "
                    f"{expected.get(path)}"
                )


def copy_matching(target: dict[str, Any], source: dict[str, Any], where: str, whole: bool = False) -> dict[str, Any]:
    """`target` with its leaves replaced by those of `source` that have the same path and shape.

    Args:
      target: parameters of a component.
      source: those of another one.
      where: names the field of the config in messages.
      whole: whether every leaf has to match, as of a component that is not trained.

    Raises:
      ConfigError: no leaf matches, or `whole` and some do not.
    """
    leaves = paths.flatten(target)
    matching = {
        path: leaf
        for path, leaf in paths.flatten(source).items()
        if path in leaves and leaves[path].shape == leaf.shape
    }
    if not matching:
        raise ConfigError(f"{where}: the two components have no parameter in common")
    if whole and (missing := sorted(leaves.keys() - matching.keys())):
        raise ConfigError(f"{where}: a component that is not trained is a whole copy, but {missing[0]} does not match")
    return paths.nest({**leaves, **matching})


def variables_of(run: Run) -> dict[str, Any]:
    """All components of the model that finished stages trained or `config.weights` holds."""
    stages = run.finished_stages()
    components = tuple(c for c in run.component_sources(stages) if c in run.codi.component_names())
    return assemble(run, stages, components)


def component_reader(
    run: Run, random: bool = False, wanted: Iterable[str] = (), all_devices: bool = False
) -> Callable[[tuple[str, ...]], dict[str, Any]]:
    """A function that reads the named components, in the model's compute dtype.

    They are sharded by the run's mesh and rules if the mesh has an axis other than 'data'; 'fsdp' counts only if the
    config sets it. Otherwise, and if the run was trained on other devices than this machine has, one device holds them,
    or each of them.

    Args:
      run: the run.
      random: whether to initialize, from the run's seed, components that neither a finished stage nor `config.weights`
        has.
      wanted: components to check for now, before any is read.
      all_devices: whether all devices hold what is not sharded, so that batches are divided over them.

    Raises:
      ConfigError: a component is missing; by this function for `wanted`, by the returned one for those it reads.
    """
    stages = run.finished_stages()
    dtype = jnp.dtype(run.codi.config.dtype)
    sources = run.component_sources(stages)
    try:
        mesh = make_mesh(dataclasses.replace(run.config.mesh, fsdp=run.config.mesh.fsdp or 1))
    except ConfigError:
        if run.workdir is None:  # the mesh is of this command's config, not of a run trained elsewhere
            raise
        mesh = make_mesh(MeshConfig(fsdp=1))
    sharded = mesh.size > mesh.shape["data"] or (all_devices and mesh.size > 1)
    sharding_fn = make_sharding_fn(run, mesh) if sharded else None

    def find_missing(components: Iterable[str]) -> tuple[str, ...]:
        missing = tuple(dict.fromkeys(c for c in components if c not in sources))
        if missing and not random:
            raise ConfigError(
                f"no weights for {', '.join(missing)}: train the stage that makes it, or name converted weights in "
                "config.weights; to run without trained weights: --random-weights (in Python: random=True)"
            )
        return missing

    def read(components: tuple[str, ...]) -> dict[str, Any]:
        missing = find_missing(components)
        variables = assemble(run, stages, tuple(c for c in components if c in sources), dtype, sharding_fn)
        for component in missing:

            def draw(key: jax.Array, component: str = component) -> dict:
                params = run.codi.init(key, (component,))
                return jax.tree.map(lambda x: x.astype(dtype), params)

            variables["params"] |= init_sharded(draw, seed_key(run.config.seed), sharding_fn)
        return variables

    find_missing(wanted)
    return read
