"""A run: one config, a workdir, and a recipe, which is a DAG of stages.

    workdir/config.json                  the resolved config
    workdir/config.begun.json            the same, as the command line has written it
    workdir/weights.json                 hashes of the components in `config.weights`
    workdir/lease.json                   the process that trains, see `train.lease`
    workdir/stages/NAME/checkpoints/     the stage's train state, from which it goes on
    workdir/stages/NAME/params/          its result: the EMA parameters of its components, or its adapters; constants
    workdir/stages/NAME/metrics.jsonl    scalars; TensorBoard events are in the same directory
    workdir/stages/NAME/cost.json        seconds by activity
    workdir/stages/NAME/bad_samples/     what could not be read of its sources

A stage reads the components that its ancestors (`depends_on`, transitively) trained. If several of them trained one
component, the last in the recipe's order is read. Other components may come from `config.weights`: a directory of
converted public checkpoints (`codi-jax convert`), one component each, the workdir of another run, or a packaged model.
"""

import dataclasses
import functools
import hashlib
import itertools
import json
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

from ml_collections import ConfigDict

from codi_jax import packaged, storage
from codi_jax.checkpoint import index, read_meta
from codi_jax.codi import CoDi, CoDiConfig
from codi_jax.config import ConfigError, config_class, few, from_dict, open_dict, renamed, to_dict
from codi_jax.objectives.base import OBJECTIVES
from codi_jax.optim import LoRAConfig, OptimizerConfig
from codi_jax.parallel import MeshConfig, ShardingConfig
from codi_jax.plugins import check_imported, import_plugins
from codi_jax.rng import check_seed
from codi_jax.sampling.config import GenerateConfig
from codi_jax.train.config_changes import Change, changes, keep_results, said, shown, tree_of
from codi_jax.train.weights_record import description

ENCODE = "encode"  # of a stage that trains nothing
BEGUN = "config.begun.json"


@config_class()
class ValidationConfig:
    """The validation loss of a stage, see `train.validation`.

    Attributes:
      source: the held-out samples, named as a stage's `source` is.
      every: steps between validations; the last step is always followed by one.
      batches: number of batches, of the stage's batch size; they are the same every time.
    """

    source: str | tuple[str, ...]
    every: int
    batches: int = 4


@config_class()
class SamplesConfig:
    """Samples that the EMA weights generate while a stage trains, see `train.sampling`.

    Attributes:
      source: a name in `config.sources`; its first samples are the prompts.
      every: steps between generations; the last step is always followed by one.
      prompt: the modality of these samples that is the prompt.
      n: number of samples.
    """

    source: str
    every: int
    prompt: str
    n: int = 8


@config_class()
class StageConfig:
    """One stage.

    Attributes:
      objective: the name of the objective to train with (`objectives.base`); `encode` instead computes the latents and
        prompts of a source once.
      modalities: the modalities of a batch.
      source: a name in `config.sources`, or an `encode` stage whose arrays are the data, or several `encode` stages,
        whose samples are concatenated.
      depends_on: stages that have to be finished first.
      trainable: regexes over whole parameter paths; the first match decides, a leading `!` freezes.
      lora: the low-rank adapters that are trained in place of parameters, see LoRAConfig; None for none.
      init_from: component -> a component of an ancestor. Leaves with the same path and shape are copied from it before
        training, such as the spatial layers of a video denoiser from an image denoiser; or a component that the
        objective reads and nothing trains, which is a whole copy, such as the teacher of a `distillation`.
      steps, batch_size: number of training steps; global batch size.
      optimizer: see OptimizerConfig.
      ema: decay of the exponential moving average of the weights.
      accumulate: number of microbatches of a step, for batches that do not fit in memory (`objectives.microbatch`).
      precision: ordered pairs (regex over whole parameter paths, dtype). A matching leaf of a frozen component, or of
        one whose adapters are kept apart, is stored in this dtype; one of a trained component is cast to it for the
        loss, and its master copy and optimizer state stay float32.
      offload: fields of the train state that are kept in host memory between steps: `ema`, `opt_state`.
      settings: the objective's own config.
      num_stats_samples: number of samples from which the constants of the trained components (latent statistics,
        prompt centres) are computed after training; 0 keeps the constants as they are.
      validation: see ValidationConfig; None for none.
      samples: see SamplesConfig; None for none.
      log_every, checkpoint_every: in steps.
      keep_last: number of newest checkpoints to keep.
      keep_every: checkpoints of steps divisible by it are kept as well; 0 for none.
      scheduling_weight: relative duration of the stage, in a unit that all stages share. With `train --jobs` the stage
        at the head of the longest path to the end of the recipe starts first (`train.overall.critical_path`).
    """

    objective: str
    modalities: tuple[str, ...]
    source: str | tuple[str, ...]
    depends_on: tuple[str, ...] = renamed("needs", default=())
    trainable: tuple[str, ...] = renamed("train", default=())
    lora: LoRAConfig | None = None
    init_from: dict[str, str] = renamed("start", default_factory=dict)
    steps: int = 0
    batch_size: int = 128
    optimizer: OptimizerConfig = dataclasses.field(default_factory=OptimizerConfig)
    ema: float = 0.999
    accumulate: int = 1
    precision: tuple[Any, ...] = ()
    offload: tuple[Literal["ema", "opt_state"], ...] = renamed("on_host", default=())
    settings: dict[str, Any] = open_dict()
    num_stats_samples: int = renamed("statistics", default=2048)
    validation: ValidationConfig | None = None
    samples: SamplesConfig | None = None
    log_every: int = 10
    checkpoint_every: int = 200
    keep_last: int = 1
    keep_every: int = 0
    scheduling_weight: float = renamed("cost", default=1.0)

    @property
    def trains(self) -> bool:
        """Whether it trains; an `encode` stage computes latents and prompts."""
        return self.objective != ENCODE


def named_sources(source: str | tuple[str, ...]) -> tuple[str, ...]:
    """The sources or stages that `StageConfig.source` or `ValidationConfig.source` names."""
    return (source,) if isinstance(source, str) else tuple(source)


@config_class()
class RunConfig:
    """The whole config of a run; stage `GROUP.NAME` is `stages.GROUP.NAME`.

    `weights`: a directory of components, WEIGHTS/COMPONENT, the workdir of another run, or the name, folder or
    hf://org/name of a packaged model; empty for none. `initialized`: components of `weights` that are not read, but
    initialized. `data`: fields that the user of a config file sets and other fields refer to. `plugins`: modules to
    import before any name is looked up (`codi_jax.plugins`). `compiler_options`: of train steps, see
    `parallel.compiler_options`.
    """

    model: CoDiConfig
    sources: dict[str, Any]
    stages: dict[str, dict[str, StageConfig]]
    generate: GenerateConfig
    evaluate: dict[str, Any] = dataclasses.field(default_factory=dict)
    seed: int = 0
    weights: str = ""
    initialized: tuple[str, ...] = ()
    data: dict[str, Any] = dataclasses.field(default_factory=dict)
    plugins: tuple[str, ...] = ()
    mesh: MeshConfig = dataclasses.field(default_factory=MeshConfig)
    sharding: ShardingConfig = dataclasses.field(default_factory=ShardingConfig)
    compiler_options: dict[str, Any] = open_dict()

    def __post_init__(self):
        check_seed(self.seed, "config.seed")


class Run:
    """A config and its workdir.

    Raises:
      ConfigError: a stage names a stage or source that does not exist, has a value out of range, or is part of a
        dependency cycle.
    """

    def __init__(self, config: RunConfig, workdir: Path | None):
        """`workdir` may be None, for a run of which only the model or the plan is used: no stage is finished then."""
        self.config, self.workdir = config, storage.as_path(workdir) if workdir is not None else None
        self.stages = {f"{group}.{leaf}": s for group, named in config.stages.items() for leaf, s in named.items()}
        for name, stage in self.stages.items():
            for need in stage.depends_on:
                if need not in self.stages:
                    raise ConfigError(f"config.stages.{name}.depends_on: there is no stage {need!r}")
            self._check_source(stage.source, f"config.stages.{name}.source")
            if not stage.trains and stage.source not in self.config.sources:
                known = ", ".join(self.config.sources)
                raise ConfigError(
                    f"config.stages.{name}.source: an encode stage reads one of {known}, not {stage.source!r}"
                )
            if stage.validation is not None:
                self._check_source(stage.validation.source, f"config.stages.{name}.validation.source")
                if stage.validation.every < 1 or stage.validation.batches < 1:
                    raise ConfigError(f"config.stages.{name}.validation: every and batches must be at least 1")
            if stage.samples is not None:
                if stage.samples.source not in self.config.sources:
                    raise ConfigError(f"config.stages.{name}.samples.source: no source {stage.samples.source!r}")
                if stage.samples.every < 1 or stage.samples.n < 1:
                    raise ConfigError(f"config.stages.{name}.samples: every and n must be at least 1")
            if stage.trains and stage.objective not in OBJECTIVES:
                known = ", ".join(map(repr, (*OBJECTIVES, ENCODE)))
                raise ConfigError(f"config.stages.{name}.objective: expected one of {known}, got {stage.objective!r}")
            if stage.trains and (stage.steps < 1 or stage.batch_size < 1):
                raise ConfigError(f"config.stages.{name}: steps and batch_size must be positive")
            if stage.lora is not None and (stage.trainable or not stage.trains):
                raise ConfigError(f"config.stages.{name}.lora: adapters alone are trained; leave out trainable")
            if stage.accumulate < 1 or stage.batch_size % stage.accumulate:
                raise ConfigError(
                    f"config.stages.{name}.accumulate: batch_size {stage.batch_size} is not divisible by "
                    f"{stage.accumulate}"
                )
            if stage.keep_last < 1 or stage.keep_every < 0:
                raise ConfigError(f"config.stages.{name}: keep_last must be at least 1 and keep_every at least 0")
        self.order = tuple(self._topological())
        self.codi = CoDi(config.model)

    def _check_source(self, named: str | tuple[str, ...], where: str) -> None:
        for source in named_sources(named):
            if source not in self.stages and (source not in self.config.sources or source != named):
                raise ConfigError(f"{where}: neither a source nor a stage: {source!r}")

    def _topological(self) -> Iterator[str]:
        done: set[str] = set()
        waiting = sorted(self.stages)  # by name, since a ConfigDict does not keep the order of its keys
        while waiting:
            ready = [name for name in waiting if done.issuperset(self.stages[name].depends_on)]
            if not ready:
                raise ConfigError(f"config.stages: stages {', '.join(waiting)} form a dependency cycle")
            yield ready[0]
            done.add(ready[0])
            waiting.remove(ready[0])

    def stage(self, name: str) -> StageConfig:
        if name not in self.stages:
            raise ConfigError(f"no stage {name!r} in this recipe; it has {', '.join(self.order)}")
        return self.stages[name]

    @property
    def folder(self) -> Path:
        """The workdir of a run that has one.

        Raises:
          ConfigError: it has none.
        """
        if self.workdir is None:
            raise ConfigError("this run has no workdir")
        return self.workdir

    def directory(self, name: str) -> Path:
        return self.folder / "stages" / name

    def ancestors(self, name: str) -> tuple[str, ...]:
        """All stages that `name` depends on, directly or not, in the recipe's order."""
        out: set[str] = set()
        stack = list(self.stage(name).depends_on)
        while stack:
            need = stack.pop()
            if need not in out:
                out.add(need)
                stack.extend(self.stage(need).depends_on)
        return tuple(stage for stage in self.order if stage in out)

    def finished(self, name: str) -> bool:
        """Whether the stage has finished."""
        if not self.stage(name).trains:
            return (self.directory(name) / "arrays.json").exists()
        return self.finished_meta(name) is not None

    def complete(self, name: str) -> bool:
        """Whether the stage has finished with all of its steps, which may have become more since."""
        stage = self.stage(name)
        if not stage.trains:
            return self.finished(name)
        meta = self.finished_meta(name)
        return meta is not None and meta.get("steps", stage.steps) >= stage.steps

    def finished_stages(self) -> tuple[str, ...]:
        """The finished stages, in the recipe's order."""
        return tuple(name for name in self.order if self.finished(name)) if self.workdir is not None else ()

    def finished_meta(self, name: str) -> dict[str, Any] | None:
        """The metadata that a finished training stage saved, `{"components": […], "stage": …, …}`; else None."""
        params = self.directory(name) / "params"
        # On a file system the directory is moved into place when it is complete, so one without an index is damaged. In
        # an object store the index is written last, so one without an index is still incomplete.
        marker = params / index.NAME if storage.is_remote(params) else params
        return read_meta(str(params)) if marker.exists() else None

    @functools.cached_property
    def converted(self) -> dict[str, Path]:
        """Component -> its directory in `config.weights`.

        Raises:
          ConfigError: `config.weights` holds no component, none of a name in `config.initialized`, or it needs plugins
            that have not been imported.
        """
        found = self._components_of_weights() if self.config.weights else {}
        if unknown := [name for name in self.config.initialized if name not in found]:
            where = f"{self.config.weights!r} has {', '.join(found)}" if found else "config.weights is empty"
            raise ConfigError(f"config.initialized: no component {', '.join(unknown)}; {where}")
        return {name: path for name, path in found.items() if name not in self.config.initialized}

    @functools.cached_property
    def _run_of_weights(self) -> "Run | None":
        """The run that `config.weights` names, if it is a workdir."""
        if not self.config.weights or packaged.is_package(self.config.weights):
            return None
        where = storage.as_path(self.config.weights)
        return load_run(where) if (where / "config.json").exists() else None

    def _components_of_weights(self) -> dict[str, Path]:
        if packaged.is_package(self.config.weights):
            package = packaged.open_package(self.config.weights)
            return dict.fromkeys(package.components("model"), package.directory)
        if self._run_of_weights is not None:
            return self._run_of_weights.component_sources(self._run_of_weights.finished_stages())
        directories = sorted(path.parent for path in storage.as_path(self.config.weights).glob(f"*/{index.NAME}"))
        out = {component: path for path in directories for component in read_meta(str(path))["components"]}
        if not out:
            raise ConfigError(f"config.weights: no components in {self.config.weights}; `codi-jax convert` makes them")
        return out

    def component_sources(self, stages: tuple[str, ...]) -> dict[str, Path]:
        """Component -> the directory to read it from.

        This is that of the last of the given finished stages which trained it, or else one in `config.weights`.

        Raises:
          ConfigError: one of `stages` is not finished.
        """
        out = dict(self.converted)
        for name in stages:
            if not self.stage(name).trains:
                continue
            meta = self.finished_meta(name)
            if meta is None:
                raise ConfigError(f"stage {name!r} is not finished in {self.workdir}; run `codi-jax train` first")
            out.update(dict.fromkeys(meta["components"], self.directory(name) / "params"))
        return out

    def adapter_sources(self, stages: tuple[str, ...]) -> dict[str, tuple[Path, ...]]:
        """Component -> the directories of adapters that are added, in this order, to what `component_sources` names."""
        other, out = self._run_of_weights, {}
        if other is not None:
            found = other.adapter_sources(other.finished_stages())
            out = {component: paths for component, paths in found.items() if component in self.converted}
        for name in stages:
            meta, params = self.finished_meta(name) or {}, self.directory(name) / "params"
            out = {component: paths for component, paths in out.items() if component not in meta.get("components", ())}
            out |= {component: (*out.get(component, ()), params) for component in meta.get("adapters", ())}
        return out

    def fingerprint(self, stages: tuple[str, ...], extra: object) -> str:
        """Hash of the weights of `stages` and `config.weights` and of `extra` (JSON-able).

        It identifies the inputs of data that are computed once, such as latents.
        """
        digest = hashlib.sha256(json.dumps(extra, sort_keys=True, default=str).encode())
        adapters = itertools.chain(*self.adapter_sources(()).values())
        for params in (*self.converted.values(), *adapters, *(self.directory(name) / "params" for name in stages)):
            digest.update(description(params))
        return digest.hexdigest()[:16]


def open_run(config: ConfigDict | dict, workdir: Path | None) -> Run:
    """The run of a config of the user in a workdir, or without one; imports the plugins that the config names."""
    parsed = from_dict(RunConfig, config)
    import_plugins(parsed.plugins)
    return Run(parsed, workdir)


def _parsed(text: str) -> RunConfig:
    """What a config says, whether it uses the present names of its keys or former ones."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        run = Run(from_dict(RunConfig, json.loads(text)), None)  # without importing the plugins of what is there
    return dataclasses.replace(run.config, model=run.codi.config)


def _changes(saved: str, given: str) -> list[Change]:
    """What differs between two configs of a run."""
    if saved == given:
        return []
    try:
        return changes(to_dict(_parsed(saved)), to_dict(_parsed(given)))
    except ValueError:  # no config of this version
        return changes(tree_of(saved), tree_of(given))


def save_config(config: ConfigDict, workdir: Path, write: bool = True) -> None:
    """Writes the resolved config to the workdir if it has none, or one with the same results of training so far.

    With `write=False` it only compares; see `config_changes`.

    Raises:
      ConfigError: the workdir holds another config.
    """
    text = json.dumps(json.loads(config.to_json()), indent=1, sort_keys=True) + "\n"
    path = storage.as_path(workdir) / "config.json"
    if path.exists():
        found = _changes(path.read_text(), text)
        if not keep_results(found):
            raise ConfigError(
                f"{workdir} holds a run of another config: {shown(found)}; choose another --workdir, or delete this one"
            )
        if not found:
            return
    if not write:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    for file in (path.with_name(BEGUN), path):
        storage.write_text(file, text)


def edited(workdir: Path) -> str:
    """How config.json has been edited since a command has written it, as a line; empty if it has not been."""
    path = storage.as_path(workdir) / "config.json"
    begun = path.with_name(BEGUN)
    found = _changes(begun.read_text(), path.read_text()) if begun.exists() and path.exists() else []
    parts = [f"{'.'.join(change.path)} from {said(change.before)} to {said(change.now)}" for change in found]
    return f"{path} has been edited: {few(parts, last=', ')}" if found else ""


def load_run(workdir: Path) -> Run:
    """The run in a workdir.

    Raises:
      ConfigError: the workdir has no readable config.json, or it names plugins that have not been imported.
    """
    path = storage.as_path(workdir) / "config.json"
    try:
        config = storage.read_json(path)
    except OSError as error:
        raise ConfigError(f"{workdir} is not a workdir: it has no config.json; `codi-jax train` writes it") from error
    parsed = from_dict(RunConfig, config)
    check_imported(parsed.plugins, str(workdir))
    return Run(parsed, workdir)
