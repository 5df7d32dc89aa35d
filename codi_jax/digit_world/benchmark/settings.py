"""What an evaluation measures, on which samples and with which draws, and the record of it in metrics.json.

Settings are chosen and reported on different samples with different draws:

    val     the samples of `config.evaluate.validation`; no held-out combinations, no floors: for choosing settings
    test    the samples of `config.evaluate.seen` and `held_out`: for reporting

    key = fold(key(config.evaluate.seed), "evaluate", split)

The seed of the training is not in the key. Each part folds its own names into it, so that a part which is measured
alone has the draws, and the numbers, that it has in the whole evaluation.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax

from codi_jax.codi import CoDi
from codi_jax.config import ConfigError, did_you_mean, from_dict, to_dict
from codi_jax.digit_world import checkout
from codi_jax.digit_world.benchmark.config import EvaluateConfig
from codi_jax.rng import fold, seed_key
from codi_jax.sampling.config import GenerateConfig
from codi_jax.train.recipe import RunConfig

SPLITS = ("test", "val")
PARTS = {  # name -> what is measured
    "real": "real samples",
    "codec": "codecs",
    "directions": "directions",
    "combinations": "sets of prompts to sets of outputs",
    "held_out": "directions of held-out combinations",
    "mix": "mix weights",
    "joint": "joint generation",
    "pretrained": "pretrained judges of the other parts",
}
OPTIONAL = {  # part -> the field of EvaluateConfig that switches it off, and the value that does
    "combinations": ("combinations", 0),
    "held_out": ("held_out", None),
    "mix": ("mixes", ()),
    "pretrained": ("pretrained", 0),
}
# Values of EvaluateConfig that do not change a number, or that the record holds elsewhere.
_NOT_RECORDED = ("n", "seed", "validation", "floors")


@dataclasses.dataclass(frozen=True)
class Overridable:
    """The sections of a run's config that can be overridden beside its workdir or package."""

    generate: GenerateConfig
    evaluate: EvaluateConfig


@dataclasses.dataclass(frozen=True)
class Scope:
    """What is measured.

    Attributes:
      split: of `SPLITS`.
      parts: of `PARTS`; without some of them the evaluation is partial, and has no verdict.

    Raises:
      ConfigError: an unknown split or part, or no part.
    """

    split: str = "test"
    parts: tuple[str, ...] = tuple(PARTS)

    def __post_init__(self):
        if self.split not in SPLITS:
            raise ConfigError(f"split: expected one of {', '.join(SPLITS)}, got {self.split!r}")
        for part in self.parts:
            if part not in PARTS:
                hint = did_you_mean(part, PARTS)
                raise ConfigError(f"parts: no part {part!r}{hint}; there are {', '.join(PARTS)}")
        if not self.parts:
            raise ConfigError(f"parts: expected some of {', '.join(PARTS)}")

    @property
    def whole(self) -> bool:
        """Whether all parts are measured."""
        return set(self.parts) == set(PARTS)


WHOLE = Scope()


def with_n(evaluate: Mapping[str, Any], n: int) -> dict[str, Any]:
    """`config.evaluate` with another number of samples; of a cell of combinations there are at most as many."""
    combinations = evaluate.get("combinations", EvaluateConfig.combinations)
    return {**evaluate, "n": n, "combinations": max(0, min(combinations, n))}


def resolve(config: RunConfig, scope: Scope) -> EvaluateConfig:
    """The settings of an evaluation: what is not in its scope is switched off, `seen` is the source of its split.

    Raises:
      ConfigError: an invalid setting, no source of validation samples, or a part that these settings leave out.
    """
    fields = dict(config.evaluate.items())
    if scope.split == "val":
        fields["held_out"] = None
    fields |= dict(off for part, off in OPTIONAL.items() if part not in scope.parts)
    settings = from_dict(EvaluateConfig, fields, "evaluate")
    if scope.split == "val":
        if settings.validation not in config.sources:
            name = "None" if settings.validation is None else repr(settings.validation)
            raise ConfigError(
                f"config.evaluate.validation: {name} is no source of this run, which has {', '.join(config.sources)}; "
                "--config.evaluate.validation=NAME names one of validation samples"
            )
        settings = dataclasses.replace(settings, seen=settings.validation)
    if not scope.whole:
        for part in (p for p in scope.parts if p in OPTIONAL):
            if part == "held_out" and scope.split == "val":
                raise ConfigError("parts: held_out: the split val has no held-out combinations")
            if not getattr(settings, field := OPTIONAL[part][0]):
                raise ConfigError(f"parts: {part}: nothing to measure, config.evaluate.{field} is empty")
        if {"directions", "joint"}.isdisjoint(scope.parts) and "pretrained" in scope.parts:
            raise ConfigError("parts: pretrained: the judges read the samples of directions and joint; measure one too")
    return settings


def key_of_draws(settings: EvaluateConfig, scope: Scope) -> jax.Array:
    """The PRNG key of all draws, see the module docstring."""
    return fold(seed_key(settings.seed), "evaluate", scope.split)


def record(codi: CoDi, config: RunConfig, settings: EvaluateConfig, scope: Scope) -> dict[str, Any]:
    """What metrics.json says about how its numbers were made.

    Returns:
      {"split", "seed": of the draws, "training_seed", "parts": "all" or a list, "generate": the settings of generation
      of all modalities, "evaluate": the settings that change numbers, "commit"}.
    """
    generate = to_dict(config.generate.complete(codi.modalities))
    evaluate = to_dict(settings)
    return {
        "split": scope.split,
        "seed": settings.seed,
        "training_seed": config.seed,
        "parts": "all" if scope.whole else [part for part in PARTS if part in scope.parts],
        "generate": {name: value for name, value in generate.items() if name != "loop"},
        "evaluate": {
            name: list(value) if isinstance(value, tuple) else value
            for name, value in evaluate.items()
            if name not in _NOT_RECORDED
        },
        "commit": checkout.commit(),
    }


def samples_of(metrics: Mapping[str, Any]) -> str:
    """ "test" or "validation"; metrics from before there were splits are of test samples."""
    return "validation" if metrics.get("split") == "val" else "test"


def why_no_verdict(metrics: Mapping[str, Any]) -> str:
    """Why metrics cannot be compared with floors, as a line; "" if they can."""
    if metrics.get("split", "test") != "test":
        return "No verdict: floors apply to test samples, and these are validation samples."
    if (parts := metrics.get("parts", "all")) != "all":
        return f"No verdict: only a part of the evaluation was measured ({', '.join(parts)})."
    return ""
