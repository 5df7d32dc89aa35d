"""A run: one config, a workdir, and a recipe, which is a DAG of stages.

    workdir/config.json                  the resolved config
    workdir/stages/NAME/checkpoints/     the stage's train state, while it trains
    workdir/stages/NAME/params/          what it made: its components' averaged parameters and their constants
    workdir/stages/NAME/metrics.jsonl    and TensorBoard events
    workdir/stages/NAME/cost.json        seconds by activity

A stage reads what the stages it needs (and theirs) made; where several made one component, the latest in the order of
the recipe counts. What none of them made may come from `config.weights`: a directory of converted public checkpoints
(`codi-jax convert`), one component each, or the workdir of another run.
"""

import dataclasses
import functools
import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

from ml_collections import ConfigDict

from codi_jax import storage
from codi_jax.checkpoint import index, read_meta
from codi_jax.codi import CoDi
from codi_jax.config import ConfigError, from_dict
from codi_jax.optim import OptimizerConfig
from codi_jax.parallel import MeshConfig, ShardingConfig


@dataclasses.dataclass(frozen=True)
class ValidationConfig:
    """Loss on samples that are not trained on.

    Attributes:
      source: as a stage's.
      every: steps from one to the next; there is one at the end, too.
      batches: of the stage's size, the same ones each time.
    """

    source: str | tuple[str, ...]
    every: int
    batches: int = 4


@dataclasses.dataclass(frozen=True)
class SamplesConfig:
    """What the averaged weights generate while a stage trains, see `train.sampling`.

    Attributes:
      source: a name in `config.sources`, whose first samples prompt.
      every: steps from one to the next; there is one at the end, too.
      prompt: the modality of these samples that is shown to the model.
      n: how many.
    """

    source: str
    every: int
    prompt: str
    n: int = 8


@dataclasses.dataclass(frozen=True)
class StageConfig:
    """One stage.

    Attributes:
      objective: what it does; `encode` computes latents and prompts of a source once instead of training.
      modalities: what a batch holds.
      source: a name in `config.sources`, or an `encode` stage whose arrays are the data, or several of these, mixed.
      needs: stages that have to be finished before.
      train: regexes over whole parameter paths; the first match decides, a leading `!` freezes.
      start: component -> another one, made by a stage before, with whose parameters it starts where names and shapes
        agree: a network of clips with what one of pictures has learnt.
      steps, batch_size: of training; batch_size is global.
      optimizer: see OptimizerConfig.
      ema: decay of the average of the weights.
      accumulate: parts in which a batch is taken, for what does not fit (`objectives.parts`).
      precision: ordered pairs (regex over whole parameter paths, dtype): of a component that is frozen, as what it is
        stored; of trained ones, as what the loss sees them, while they and their optimizer state stay float32.
      on_host: of the train state, what waits in host memory between steps: `ema`, `opt_state`.
      settings: the objective's own config.
      statistics: samples from which the constants of what was trained (latent statistics, prompt centres) are taken
        when it is done; 0 leaves them alone.
      validation: see ValidationConfig; None for none.
      samples: see SamplesConfig; None for none.
      log_every, checkpoint_every: steps.
      keep_last: how many of the newest checkpoints stay.
      keep_every: checkpoints of steps divisible by it stay as well; 0 for none.
      cost: what it takes, in any unit that all stages share; side by side (`train --jobs`), the stage that begins the
        dearest chain goes first.
    """

    objective: Literal["codec", "bridging", "encode", "ldm", "latent_alignment", "judge", "similarity"]
    modalities: tuple[str, ...]
    source: str | tuple[str, ...]
    needs: tuple[str, ...] = ()
    train: tuple[str, ...] = ()
    start: dict[str, str] = dataclasses.field(default_factory=dict)
    steps: int = 0
    batch_size: int = 128
    optimizer: OptimizerConfig = dataclasses.field(default_factory=OptimizerConfig)
    ema: float = 0.999
    accumulate: int = 1
    precision: tuple[Any, ...] = ()
    on_host: tuple[Literal["ema", "opt_state"], ...] = ()
    settings: dict[str, Any] = dataclasses.field(default_factory=dict)
    statistics: int = 2048
    validation: ValidationConfig | None = None
    samples: SamplesConfig | None = None
    log_every: int = 10
    checkpoint_every: int = 200
    keep_last: int = 1
    keep_every: int = 0
    cost: float = 1.0


@dataclasses.dataclass(frozen=True)
class RunConfig:
    """The whole config of a run; stage `GROUP.NAME` stands at `stages.GROUP.NAME`.

    `weights`: directory of components that were made elsewhere, WEIGHTS/COMPONENT, or another run's workdir; empty for
    none. `data`: what a config file asks its user for; other fields refer to it.
    """

    model: dict[str, Any]
    sources: dict[str, Any]
    stages: dict[str, dict[str, StageConfig]]
    generate: dict[str, Any]
    evaluate: dict[str, Any] = dataclasses.field(default_factory=dict)
    seed: int = 0
    weights: str = ""
    data: dict[str, Any] = dataclasses.field(default_factory=dict)
    mesh: MeshConfig = dataclasses.field(default_factory=MeshConfig)
    sharding: ShardingConfig = dataclasses.field(default_factory=ShardingConfig)


class Run:
    """A config and its workdir; checks the recipe at once."""

    def __init__(self, config: RunConfig, workdir: Path | None):
        """Without a workdir there is a model, and no stage is finished."""
        self.config, self.workdir = config, storage.as_path(workdir) if workdir is not None else None
        self.stages = {f"{group}.{leaf}": s for group, named in config.stages.items() for leaf, s in named.items()}
        for name, stage in self.stages.items():
            for need in stage.needs:
                if need not in self.stages:
                    raise ConfigError(f"config.stages.{name}.needs: there is no stage {need!r}")
            self._check_source(stage.source, f"config.stages.{name}.source")
            if stage.validation is not None:
                self._check_source(stage.validation.source, f"config.stages.{name}.validation.source")
                if stage.validation.every < 1 or stage.validation.batches < 1:
                    raise ConfigError(f"config.stages.{name}.validation: every and batches are at least 1")
            if stage.samples is not None:
                if stage.samples.source not in self.config.sources:
                    raise ConfigError(f"config.stages.{name}.samples.source: no source {stage.samples.source!r}")
                if stage.samples.every < 1 or stage.samples.n < 1:
                    raise ConfigError(f"config.stages.{name}.samples: every and n are at least 1")
            if stage.objective != "encode" and (stage.steps < 1 or stage.batch_size < 1):
                raise ConfigError(f"config.stages.{name}: steps and batch_size must be positive")
            if stage.accumulate < 1 or stage.batch_size % stage.accumulate:
                raise ConfigError(
                    f"config.stages.{name}.accumulate: a batch of {stage.batch_size} has no {stage.accumulate} parts"
                )
            if stage.keep_last < 1 or stage.keep_every < 0:
                raise ConfigError(f"config.stages.{name}: keep_last is at least 1, and keep_every at least 0")
        self.order = tuple(self._topological())
        self.codi = CoDi.from_config(config.model)

    def _check_source(self, named: str | tuple[str, ...], where: str) -> None:
        for source in (named,) if isinstance(named, str) else named:
            if source not in self.stages and (source not in self.config.sources or source != named):
                raise ConfigError(f"{where}: neither a source nor a stage: {source!r}")

    def _topological(self) -> Iterator[str]:
        done: set[str] = set()
        waiting = sorted(self.stages)  # by name: a ConfigDict keeps no order
        while waiting:
            ready = [name for name in waiting if done.issuperset(self.stages[name].needs)]
            if not ready:
                raise ConfigError(f"config.stages: {', '.join(waiting)} need one another in a circle")
            yield ready[0]
            done.add(ready[0])
            waiting.remove(ready[0])

    def stage(self, name: str) -> StageConfig:
        if name not in self.stages:
            raise ConfigError(f"no stage {name!r} in this recipe; it has {', '.join(self.order)}")
        return self.stages[name]

    def directory(self, name: str) -> Path:
        return self.workdir / "stages" / name

    def ancestors(self, name: str) -> tuple[str, ...]:
        """All stages that `name` builds on, in the recipe's order."""
        found: set[str] = set()
        stack = list(self.stage(name).needs)
        while stack:
            need = stack.pop()
            if need not in found:
                found.add(need)
                stack.extend(self.stage(need).needs)
        return tuple(stage for stage in self.order if stage in found)

    def finished(self, name: str) -> bool:
        """Whether the stage has been run to its end."""
        if self.stage(name).objective == "encode":
            return (self.directory(name) / "arrays.json").exists()
        return self.made(name) is not None

    def finished_stages(self) -> tuple[str, ...]:
        """Those that have been run to their end, in the recipe's order."""
        return tuple(name for name in self.order if self.finished(name)) if self.workdir is not None else ()

    def made(self, name: str) -> dict[str, Any] | None:
        """What a finished training stage recorded of itself, `{"components": […], "stage": …, …}`; else None."""
        params = self.directory(name) / "params"
        # Here it is put in place as a whole: without its record it is damaged. In a store it is then not complete yet.
        there = params / index.NAME if storage.is_remote(params) else params
        return read_meta(str(params)) if there.exists() else None

    @functools.cached_property
    def converted(self) -> dict[str, Path]:
        """Component -> its directory in `config.weights`."""
        if not self.config.weights:
            return {}
        if (storage.as_path(self.config.weights) / "config.json").exists():
            there = load_run(Path(self.config.weights))
            return there.providers(there.finished_stages())
        found = sorted(path.parent for path in storage.as_path(self.config.weights).glob(f"*/{index.NAME}"))
        out = {component: path for path in found for component in read_meta(str(path))["components"]}
        if not out:
            raise ConfigError(f"config.weights: no components in {self.config.weights}; `codi-jax convert` makes them")
        return out

    def providers(self, stages: tuple[str, ...]) -> dict[str, Path]:
        """Component -> where the version that counts is: of the latest of some finished stages, or a converted one."""
        out = dict(self.converted)
        for name in stages:
            if self.stage(name).objective == "encode":
                continue
            made = self.made(name)
            if made is None:
                raise ConfigError(f"stage {name!r} is not finished in {self.workdir}; run `codi-jax train` first")
            out.update(dict.fromkeys(made["components"], self.directory(name) / "params"))
        return out

    def fingerprint(self, stages: tuple[str, ...], extra: Any) -> str:
        """Hash of the weights that `stages` can read and of `extra` (JSON-able): what computed data depends on."""
        digest = hashlib.sha256(json.dumps(extra, sort_keys=True, default=str).encode())
        for params in (*self.converted.values(), *(self.directory(name) / "params" for name in stages)):
            if (params / index.NAME).exists():
                digest.update((params / index.NAME).read_bytes())
        return digest.hexdigest()[:16]


def open_run(config: ConfigDict | dict, workdir: Path | None) -> Run:
    """The run of a config in a workdir, or without one."""
    return Run(from_dict(RunConfig, config), workdir)


def save_config(config: ConfigDict, workdir: Path, write: bool = True) -> None:
    """Writes the resolved config, once; without `write`, compares it with what is there.

    Raises:
      ConfigError: the workdir belongs to another config.
    """
    text = json.dumps(json.loads(config.to_json()), indent=1, sort_keys=True) + "\n"
    path = storage.as_path(workdir) / "config.json"
    if path.exists():
        if path.read_text() != text:
            raise ConfigError(
                f"{workdir} holds a run of another config ({path}); take another --workdir, or delete this one"
            )
        return
    if not write:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    storage.write_text(path, text)


def load_run(workdir: Path) -> Run:
    """The run in a workdir.

    Raises:
      ConfigError: there is none.
    """
    path = storage.as_path(workdir) / "config.json"
    try:
        config = json.loads(path.read_text())
    except OSError as error:
        raise ConfigError(f"{workdir} is not a workdir: it has no config.json; `codi-jax train` makes one") from error
    except ValueError as error:
        raise ConfigError(f"{path}: not JSON ({error})") from error
    return open_run(config, workdir)
