"""`codi-jax evaluate`: metrics of every direction, every combination and every set of outputs, and of real samples.

    workdir/metrics.json    metrics and how they were made: the same weights, settings and commit give the same bytes
    workdir/samples.npz     prompts, generated samples and their readings, so that they can be read again
    workdir/cost.json       seconds and memory, including those of the stages

samples.npz contains, by path (row i of every array belongs to row i of its prompts; -1 is unread):

    real/{seen, held_out}/values/MODALITY, …/factors/FACTOR, …/instances/NAME
    codec/MODALITY/values, …/read/FACTOR                       real/seen/values, encoded and decoded
    matrix/A->B/values, matrix/A->B/read/FACTOR                prompted by real/seen/values/A; held_out/A->B likewise
    combinations/A+B->C+D/values/MODALITY, …/read/…            prompted by the first rows of real/seen/values, as above
    joint/A+B/values/MODALITY, …/read/MODALITY/FACTOR          null prompt, generated together
    independent/values/MODALITY, …/read/MODALITY/FACTOR        null prompt and the same noise, generated separately

What is measured, on which samples and with which draws is in `benchmark.settings`; `seen` are the samples of the split.
"""

import copy
import dataclasses
import json
import resource
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from codi_jax import digit_world, storage
from codi_jax.codi import CoDi
from codi_jax.config import ConfigError, from_dict
from codi_jax.data.source import Source, make_source
from codi_jax.digit_world.benchmark import (
    combinations,
    diversity,
    joint,
    matrix,
    memory,
    mixing,
    outside,
    roundtrip,
    sync,
    trained,
)
from codi_jax.digit_world.benchmark.config import EvaluateConfig
from codi_jax.digit_world.benchmark.samples import EvaluationSamples, array, take
from codi_jax.digit_world.benchmark.settings import WHOLE, Scope, key_of_draws, record, resolve, why_no_verdict
from codi_jax.digit_world.benchmark.tables import table
from codi_jax.digit_world.benchmark.verdict import Verdict, verdict
from codi_jax.digit_world.judges import similarity
from codi_jax.digit_world.judges.readers import Reading, make_readers
from codi_jax.metrics import frechet
from codi_jax.metrics.agreement import agreement
from codi_jax.modalities import MODALITIES
from codi_jax.packaged import open_package
from codi_jax.parallel import paths
from codi_jax.rng import fold
from codi_jax.sampling.config import GenerateConfig
from codi_jax.sampling.generator import Generator
from codi_jax.train.ledger import stage_costs

__all__ = ["evaluate", "make_verdict", "table"]

_MEASURED = (
    *("real", "codec", "matrix", "combinations", "held_out", "mix", "joint", "sim"),
    *("sync", "diversity", "memorisation", "pretrained"),
)


class Evaluation:
    """One evaluation: the model with its weights, the readers, and the seconds of each part."""

    def __init__(self, codi: CoDi, config: Any, variables: dict[str, Any], scope: Scope = WHOLE):
        self.codi, self.config, self.scope, self.settings = codi, config, scope, resolve(config, scope)
        self.sources = {
            name: self._source(config, getattr(self.settings, name), size)
            for name, size in (("seen", self.settings.n + self.settings.reference), ("held_out", self.settings.n))
            if getattr(self.settings, name)
        }
        components = codi.component_names()
        if missing := sorted(components.keys() - variables["params"].keys()):
            raise ConfigError(
                f"evaluate: no finished stage has trained {', '.join(missing)}; run `codi-jax train` first"
            )
        self.variables = {**variables, "params": {name: variables["params"][name] for name in components}}
        self.stages = [stage for group in config.stages.values() for stage in group.values()]
        package = open_package(self.settings.judges)
        self.readers = make_readers(codi, package, self.settings.n, self.settings.factors)
        self.similarity = similarity.from_package(codi, package, self.settings.n)
        self.generator = Generator(codi, config.generate)
        self.key = key_of_draws(self.settings, scope)
        self.names = [name for name in MODALITIES if name in codi.modalities]  # in the order of the registry
        self.sets = combinations.subsets(self.names)
        pairs = [(a, b) for a in self.names for b in self.names]
        # Of held-out combinations the directions between different modalities, since copying is easy.
        self.directions = {kind: [(a, b) for a, b in pairs if kind == "seen" or a != b] for kind in self.sources}
        self.seconds: dict[str, float] = {}
        self._fits: dict[str, frechet.Gaussian] = {}
        self.training = memory.training(config, self.names) if self.settings.neighbours and scope.whole else {}
        for title in self.settings.mixes:
            for name in mixing.parse_title(title):
                codi[name]

    def with_settings(
        self, generate: GenerateConfig, parts: tuple[str, ...], variables: dict[str, Any] | None = None
    ) -> "Evaluation":
        """Some parts of this evaluation, measured with other settings of generation, and other weights if given.

        Compiled programs and the fits of the reference samples are shared.
        """
        other = copy.copy(self)
        other.config, other.scope = dataclasses.replace(self.config, generate=generate), Scope(self.scope.split, parts)
        other.generator, other.seconds = self.generator.with_config(generate), {}
        other.settings = resolve(other.config, other.scope)
        other.variables = other.variables if variables is None else variables
        return other

    @staticmethod
    def _source(config: Any, name: str, size: int) -> Source:
        only = "evaluate reads the factors of digit_world; `codi-jax report` shows losses and samples of any run"
        if name not in config.sources:
            known = ", ".join(config.sources)
            raise ConfigError(f"config.evaluate: no source {name!r}; there are {known}. {only}")
        source = make_source(config.sources[name], f"sources.{name}")
        if not len(source) or "factors" not in source[0]:
            raise ConfigError(f"config.evaluate: samples of {name!r} have no factors. {only}")
        if len(source) < size:
            raise ConfigError(f"config.evaluate: {size} samples of {name!r} are required, it has {len(source)}")
        return source

    def _generate(self, outputs: tuple[str, ...], prompts: Mapping[str, list], key: str) -> dict[str, list]:
        return self.generator.generate(self.variables, outputs, prompts, self.settings.n, fold(self.key, key))

    def _read(self, values: Mapping[str, list]) -> dict[str, Reading]:
        return {name: self.readers[name](raw) for name, raw in values.items()}

    def _measures(self, *parts: str) -> bool:
        """Whether one of these parts is measured."""
        return not {*parts}.isdisjoint(self.scope.parts)

    def _timed(self, title: str) -> "_Timed":
        counts = (
            self._measures("real", "joint"),
            self._measures("codec"),
            len(self.directions["seen"]) * self._measures("directions"),
            len(self.directions.get("held_out", ())) * self._measures("held_out"),
            len(self.sets) * (self._measures("joint") + bool(self.settings.combinations)),
            len(self.settings.mixes),
            len(self.training),
            bool(self.settings.pretrained),
        )
        return _Timed(self.seconds, title, sum(counts))

    def run(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """The metrics, and the arrays of samples.npz by path; see the module's docstring."""
        metrics: dict[str, Any] = {"n": self.settings.n, **{name: {} for name in _MEASURED}}
        saved: dict[str, Any] = {"real": {}, "joint": {}, "independent": {"values": {}}}
        n = self.settings.n
        for name, source in self.sources.items():
            samples = take(self.codi, source, range(n))
            real = self._read(samples.values)
            saved["real"][name] = {
                "values": {m: array(v) for m, v in samples.values.items()},
                "factors": samples.factors,
                "instances": samples.instances,
            }
            if name == "seen":
                if self._measures("real", "joint"):
                    metrics["real"] = self._reference(source, samples, real)
                if self._measures("codec"):
                    metrics["codec"], saved["codec"] = self._round_trips(samples, real)
                if self.settings.combinations:
                    metrics["combinations"], saved["combinations"] = {}, {}
                    for outputs in self.sets:
                        self._combinations(outputs, samples, metrics["combinations"], saved["combinations"])
                    metrics["combinations_mean"] = combinations.mean(saved["combinations"], samples)
                metrics["mix"] = {title: self._mix(title, samples) for title in self.settings.mixes}
            kind = "matrix" if name == "seen" else name
            metrics[kind], saved[kind] = {}, {}
            for direction, result, values, reading in self._directions(name, samples, real):
                metrics[kind][direction] = result
                saved[kind][direction] = {"values": array(values), "read": reading.factors}
        if self._measures("joint"):
            self._joint(self._fits, metrics, saved)
        if self.scope.whole:
            metrics["sync"], metrics["diversity"] = sync.measure(saved), diversity.measure(saved)
            metrics["memorisation"] = {name: self._memory(name, saved) for name in self.training}
        if self.settings.pretrained:
            with self._timed("pretrained judges") as timed:
                count = min(n, self.settings.pretrained)
                metrics["pretrained"] = outside.judge(self.codi, saved, count, self.settings.factors)
                timed.summary = ", ".join(f"{m} {network}" for m, network in metrics["pretrained"]["judges"].items())
        metrics["wordings"] = trained.wordings(self.sources.values())
        metrics["objectives"] = sorted({s.objective for s in self.stages} - {*trained.JUDGE_OBJECTIVES, "encode"})
        how = record(self.codi, self.config, self.settings, self.scope)
        return {**_rounded(metrics), **how}, paths.flatten(saved)

    def _reference(self, source: Source, samples: EvaluationSamples, real: Mapping[str, Reading]) -> dict[str, Any]:
        """Fits Gaussians to the reference samples, once; accuracy and Fréchet distance of real samples, if measured."""
        with self._timed("real samples") as timed:
            n, fits, out = self.settings.n, self._fits, {}
            if not fits:
                other = self._read(take(self.codi, source, range(n, n + self.settings.reference)).values)
                fits.update({m: frechet.fit(r.features) for m, r in other.items() if r.features is not None})
            for m in self.names if self._measures("real") else ():
                read = {f: agreement((samples.factors[f], x)) for f, x in real[m].factors.items()}
                out[m] = {"n": n, **read, "fidelity": joint.fidelity(real[m], fits.get(m))}
            timed.summary = "  ".join(f"{m} {_brief({f: x for f, x in out[m].items() if f != 'n'})}" for m in out)
        return out

    def _round_trips(
        self, samples: EvaluationSamples, real: Mapping[str, Reading]
    ) -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
        """Accuracy of real samples after a codec round trip, and the reconstructions to save."""
        with self._timed("codecs") as timed:
            values = roundtrip.reconstruct(self.generator, self.variables, {m: samples.values[m] for m in self.names})
            readings = self._read(values)
            out = roundtrip.accuracy(samples.factors, readings, real, samples.instances)
            rates = {m: {f: row["accuracy"] for f, row in cell["factors"].items()} for m, cell in out.items()}
            timed.summary = "  ".join(f"{m} {_brief(rates[m])}" for m in rates)
        return out, {m: {"values": array(values[m]), "read": readings[m].factors} for m in values}

    def _directions(
        self, kind: str, samples: EvaluationSamples, real: Mapping[str, Reading]
    ) -> Iterator[tuple[str, dict[str, Any], list, Reading]]:
        for a, b in self.directions[kind] if self._measures("held_out" if kind == "held_out" else "directions") else ():
            direction = f"{a}->{b}"
            with self._timed(direction if kind == "seen" else f"{direction} ({kind})") as timed:
                values = self._generate((b,), {a: samples.values[a]}, direction)[b]
                reading = self.readers[b](values)
                shared = samples.clusterings((a,)), samples.clusterings((b,))
                result = matrix.direction(a, samples.factors, reading, real[b], *shared)
                timed.summary = _brief({f: row["accuracy"] for f, row in result["factors"].items()})
            yield direction, {"paired": trained.is_paired(self.stages, a, b), **result}, values, reading

    def _combinations(
        self, outputs: tuple[str, ...], samples: EvaluationSamples, table: dict[str, Any], saved: dict[str, Any]
    ) -> None:
        """Adds the cells of all sets of prompts to one set of outputs to `table`, and their samples to `saved`."""
        n, batch, title = self.settings.combinations, self.settings.n, "+".join(outputs)
        with self._timed(f"* -> {title}") as timed:
            prompts = self.generator.prompts(self.variables, samples.values)
            values: dict[str, list] = {name: [] for name in outputs}
            for k, (row, weights) in enumerate(combinations.batches(self.names, n, batch)):
                batch_prompts = {name: prompt[row % n] for name, prompt in prompts.items()}
                key = fold(self.key, "combinations", title, k)
                latents = self.generator.latents(self.variables, outputs, batch_prompts, batch, key, weights)
                for name, generated in self.generator.decode(self.variables, latents).items():
                    values[name] += generated
            readings = self._read(values)
            cells = dict(combinations.cells(self.names, outputs, n, samples.factors, readings))
            timed.summary = f"digit {combinations.summary(cells)['digit']:.3f}"
        table.update(cells)
        for c, cell in enumerate(cells):
            rows = slice(c * n, (c + 1) * n)
            saved[cell] = {
                "values": {m: array(v[rows]) for m, v in values.items()},
                "read": {m: {f: x[rows] for f, x in r.factors.items()} for m, r in readings.items()},
            }

    def _mix(self, title: str, samples: EvaluationSamples) -> dict[str, Any]:
        """One mix-weight curve."""
        with self._timed(title) as timed:
            a, b, output = mixing.parse_title(title)
            prompts = self.generator.prompts(self.variables, {m: samples.values[m] for m in (a, b)})
            first, second, weight = mixing.curve_batch(samples.factors[digit_world.LEADING], self.settings.n)
            prompts = {a: prompts[a][first], b: prompts[b][second]}
            key = fold(self.key, "mix", title)
            weights = {a: 1 - weight, b: weight}
            latents = self.generator.latents(self.variables, (output,), prompts, len(weight), key, weights)
            read = self._read(self.generator.decode(self.variables, latents))[output]
            curve = mixing.curve(a, b, samples.factors, first, second, read)
            timed.summary = f"{a} {curve[digit_world.LEADING][a][0]:.2f} .. {b} {curve[digit_world.LEADING][b][-1]:.2f}"
        return curve

    def _memory(self, name: str, saved: Mapping[str, Any]) -> dict[str, Any]:
        """Distances of the outputs of one modality to the nearest training samples."""
        with self._timed(f"neighbours of {name}") as timed:
            out = memory.measure(self.codi, name, self.training[name], saved, self.settings.neighbours)
            timed.summary = memory.summary(out)
        return out

    def _joint(self, fits: Mapping[str, frechet.Gaussian], metrics: dict[str, Any], saved: dict[str, Any]) -> None:
        def to_save(values: Mapping[str, list], readings: Mapping[str, Reading]) -> dict[str, Any]:
            return {
                "values": {m: array(v) for m, v in values.items()},
                "read": {m: r.factors for m, r in readings.items()},
            }

        # One key for all sets: an output starts from the same noise in each of them.
        alone_values: dict[str, list] = {}
        for name in self.names:
            with self._timed(f"{name} alone"):
                alone_values.update(self._generate((name,), {}, "open"))
        alone = self._read(alone_values)
        saved["independent"] = to_save(alone_values, alone)
        alone_embeddings = self.similarity(alone_values) if self.similarity else {}
        for outputs in self.sets[len(self.names) :]:
            title = "+".join(outputs)
            with self._timed(title) as timed:
                values = self._generate(outputs, {}, "open")
                readings = self._read(values)
                result = joint.coherence(readings, {m: alone[m] for m in outputs}, fits)
                rates = {f: row["joint"] for f, row in result.items() if f != "n"}
                if self.similarity:
                    metrics["sim"][title] = similarity.coherence(self.similarity(values), alone_embeddings)
                    rates["sim"] = metrics["sim"][title]["joint"]
                timed.summary = _brief(rates)
            metrics["joint"][title] = {"trained": trained.trained_together(self.stages, outputs), **result}
            saved["joint"][title] = to_save(values, readings)


class _Timed:
    """Records the seconds of a block, and prints them with the block's `summary`."""

    def __init__(self, seconds: dict[str, float], title: str, total: int):
        self._seconds, self._title, self._total, self.summary = seconds, title, total, ""

    def __enter__(self) -> "_Timed":
        self._start = time.perf_counter()
        return self

    def __exit__(self, kind: Any, *_: object) -> None:
        if kind is None:
            seconds = self._seconds[self._title] = time.perf_counter() - self._start
            count = f"{len(self._seconds)}/{self._total}"
            print(f"evaluate  {count}  {self._title}  {self.summary}  {seconds:.1f}s".replace("    ", "  "), flush=True)


def _brief(rates: Mapping[str, float | None]) -> str:
    return " ".join(f"{name} {rate:.3f}" for name, rate in rates.items() if rate is not None)


def _rounded(tree: Any) -> Any:
    """Rounds floats to four digits; unlike `tree.map` it keeps the order of keys, which the table uses."""
    if isinstance(tree, dict):
        return {key: _rounded(value) for key, value in tree.items()}
    if isinstance(tree, list):
        return [_rounded(value) for value in tree]
    return round(tree, 4) if isinstance(tree, float) else tree


def _cost(workdir: Path, seconds: Mapping[str, float], total: float, core: float) -> dict[str, Any]:
    """Contents of cost.json: seconds of the stages and of this evaluation, and the peak memory of this process."""
    unit = 1 if sys.platform == "darwin" else 1024  # bytes per unit of ru_maxrss
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
    rounded = {name: round(value, 2) for name, value in seconds.items()}
    return {
        "stages": stage_costs(workdir),
        "evaluate": {
            **{"seconds": rounded, "total": round(total, 2), "core_seconds": round(core, 2)},
            "peak_memory_bytes": peak,
        },
    }


def evaluate(
    codi: CoDi,
    config: Any,
    variables: dict[str, Any],
    out: Path,
    scope: Scope = WHOLE,
    workdir: Path | None = None,
) -> dict[str, Any]:
    """Evaluates a model and writes samples.npz, cost.json and, last and atomically, metrics.json.

    Args:
      codi: the model.
      config: the RunConfig.
      variables: parameters and constants of the model.
      out: folder for the files, the directory of the run unless that is to stay as it is.
      scope: what is measured, on which samples.
      workdir: directory of the run, for the costs of its stages; None for `out`.

    Returns:
      The metrics: {"n", "real", "codec", "matrix", "combinations", "combinations_mean", "held_out", "joint", "sim",
      "mix", "sync", "diversity", "memorisation", "pretrained", "wordings", "objectives"} and those of
      `settings.record`. What is not measured is {}; "sim" is empty if a modality has no packaged tower, "sync" if the
      model has not both audio and video, "memorisation" without `neighbours`.

    Raises:
      ConfigError: a component, source or reader is missing, or the package of the judges is.
    """
    start, cores = time.perf_counter(), time.process_time()
    evaluation = Evaluation(codi, config, variables, scope)
    metrics, samples = evaluation.run()
    out.mkdir(parents=True, exist_ok=True)
    with storage.atomic_write(out / "samples.npz") as fresh:
        np.savez_compressed(fresh, **samples)
    cost = _cost(workdir or out, evaluation.seconds, time.perf_counter() - start, time.process_time() - cores)
    storage.write_text(out / "cost.json", json.dumps(cost, indent=1) + "\n")
    write_metrics(out, metrics)
    return metrics


def write_metrics(out: Path, metrics: Mapping[str, Any]) -> None:
    """Writes metrics.json: sorted, so that equal metrics are equal bytes."""
    storage.write_text(out / "metrics.json", json.dumps(metrics, indent=1, sort_keys=True, allow_nan=False) + "\n")


def make_verdict(metrics: Mapping[str, Any], config: Any) -> Verdict | None:
    """The verdict on the metrics of a run; None if its RunConfig has no floors, or for `settings.why_no_verdict`."""
    if why_no_verdict(metrics):
        return None
    floors = from_dict(EvaluateConfig, config.evaluate, "evaluate").floors
    return None if floors is None else verdict(metrics, floors)
