"""The run that trains the packaged model, and its variants."""

import dataclasses
from typing import Any, Literal

from codi_jax.codi import CoDi, CoDiConfig
from codi_jax.config import ConfigError, checked_fields, checked_options, from_dict
from codi_jax.diffusion.guidance import ClassifierFreeGuidance
from codi_jax.digit_world import WorldConfig
from codi_jax.packaged import DEFAULT, open_package
from codi_jax.presets import digit_world
from codi_jax.presets.digit_world import MODALITIES, Environment
from codi_jax.presets.digit_world.distil import distil_stages, few_steps
from codi_jax.presets.digit_world.evaluation import evaluation
from codi_jax.presets.digit_world.stages import (
    ENVIRONMENT_NOISE,
    IN_PARTS,
    OWN_SHARE,
    POOLS,
    TIMED,
    Variant,
    from_package,
    judge_stages,
    stages,
)
from codi_jax.presets.options import subset
from codi_jax.presets.stages import shrink
from codi_jax.sampling.config import GenerateConfig
from codi_jax.train.recipe import RunConfig

# A limit of 1 and tokens `by_norm` are the best trade of docs/claims/sweep.adjusted.json.
GUIDANCE = {
    "text": ClassifierFreeGuidance(2.0, 3.0, limit=1.0),
    "image": ClassifierFreeGuidance(4.0, 8.0, low=0.3, limit=1.0),
    "audio": ClassifierFreeGuidance(3.0, 8.0, low=0.3, limit=1.0),
    "video": ClassifierFreeGuidance(4.0, 8.0, low=0.3, limit=1.0),
}
DELAY = {"image": 5, "audio": 5, "video": 5}  # steps by which an output starts after the first ones


def world(modalities: tuple[str, ...], split: str = "train", size: int = 20_000, **options) -> dict:
    """A source of digit_world."""
    fields = checked_fields(WorldConfig, split=split, size=size, modalities=modalities, **options)
    return {"name": "digit_world", **fields}


def sources(modalities: tuple[str, ...], merged: bool, length: float) -> dict:
    """`config.sources`. Pools have different seeds, so no sample is in two of them.

    Encoded sources grow with `length`, so that a short run does not encode samples that it hardly uses.
    """
    share = min(1.0, length)
    out = {
        "captions": world(("text",), size=100_000, seed=10, truncate=0.5, short_captions=True),
        # Codecs train on single frames, since the eight frames of a video are too similar to be worth the time.
        "frames": world(("image",), size=100_000, seed=11, frames="video" in modalities),
        # For choosing settings: `codi-jax evaluate --split=val` (config.evaluate.validation, by default `val`)
        "val": world(modalities, "val", 2_000, seed=3, truncate=0.0),
        "test": world(modalities, "test", 2_000, seed=2, truncate=0.0),
        "test_seen": world(modalities, "test", 2_000, seed=2, truncate=0.0, combinations="seen"),
        "test_held_out": world(modalities, "test", 2_000, seed=2, truncate=0.0, combinations="held_out"),
    }
    for seed, pool in enumerate(POOLS):
        pair = tuple(pool.split("+"))
        if set(pair) <= set(modalities):
            size = round(share * (5_000 if pair == ("text", "video") else 10_000))
            out[pool] = world(pair, size=size, seed=20 + seed, truncate=0.3)
            # Truncated prompts hurt the towers; a second wording teaches them factors that images do not show.
            stills: dict[str, Any] = {"stills": 0.4} if pool == "text+video" else {}
            out[f"{pool} whole"] = world(pair, size=100_000, seed=20 + seed, truncate=0.0, reword=True, **stills)
    if merged:
        out["merged"] = world(modalities, size=10_000, seed=30, truncate=0.3, merged=True)
    return out


def packaged() -> CoDiConfig:
    """`config.model` of the package."""
    return from_dict(CoDiConfig, open_package(DEFAULT).run["model"], "model")


def packaged_model(names: tuple[str, ...], tokens: Environment, timed: bool, parts: bool) -> CoDiConfig:
    """The packaged model with these modalities, with environment encoders that return `tokens`; see `digit_world`."""
    whole, own = packaged(), digit_world.model(modalities=names, tokens=tokens, timed=timed)
    modalities = {
        name: dataclasses.replace(
            whole.modalities[name],
            environment=dataclasses.replace(whole.modalities[name].environment, tokens=tokens),
            **({"timing": own.modalities[name].timing} if name in TIMED else {}),
            **({"reads_parts": True} if parts and name in IN_PARTS else {}),
        )
        for name in names
    }
    return dataclasses.replace(whole, modalities=modalities, environment_tokens=tokens)


@checked_options
def run(
    *,
    modalities: str | tuple[str, ...] = MODALITIES,
    length: float = 1.0,
    n: int = 32,
    pretrained: int = 0,
    loss: Literal["ours", "paper"] = "ours",
    anchor: Literal["own", "partner", "text", "none"] = "own",
    own_share: float = OWN_SHARE,
    environment_noise: float = ENVIRONMENT_NOISE,
    tokens: Environment = "pooled",
    timed: bool = False,
    parts: bool = False,
    pools: Literal["paired", "merged"] = "paired",
    floors: Literal["demo", "package"] = "demo",
    start: Literal["scratch", "package"] = "scratch",
    distill: int = 0,
    students: int = 0,
    judges: bool = False,
    tiny: bool = False,
) -> RunConfig:
    """The config of the run.

    Args:
      modalities: a subset of MODALITIES, text and image (and audio) at least, as names or joined by "+".
      length: every stage has `length` times its steps.
      n: of the evaluation.
      pretrained: number of samples that pretrained judges read; 0 for the default: 64, and none of a variant.
      loss: `ours`, or `paper` for the paper's alignment loss, without own shares and noise of the environment.
      anchor: the prompt embedding that V regresses: its modality's `own`, its `partner`'s, or that of a pair's `text`;
        with `none`, V is trained by the losses of the denoisers alone.
      own_share: largest share of V of a modality in its own environment, in the joint training of a pair without text.
      environment_noise: of the environment in the joint training of a pair without text.
      tokens: environment tokens, `pooled` or `map`.
      timed: audio and video have attention in time, which the last stage trains.
      parts: with start=package, the encoders of parts of images and sounds alone are trained.
      pools: `paired`, or `merged`: samples of all modalities from the denoisers on, and every pair of outputs trained.
      floors: `demo`, or `package` for those of the packaged model.
      start: `scratch`, or `package`: V and X alone are trained, with the other components of the packaged model. With
        pools=merged the denoisers are trained, too; with timed=True attention in time alone is.
      distill: with start=package, steps of students of the packaged model, which need no guidance; they alone are
        trained. 0 for none.
      students: with distill, the steps of students of which these are distilled in turn, such as 4 for distill=2;
        `config.weights` has to name their workdir. 0: the packaged model, with its guidance, is the teacher.
      judges: train the judges and similarity towers of the evaluation instead of the model.
      tiny: a few steps per stage, for tests.

    Raises:
      ConfigError: an invalid option.
    """
    names, merged, paper = subset(modalities, MODALITIES), pools == "merged", loss == "paper"
    if merged and names != MODALITIES:
        raise ConfigError("option pools=merged: needs all modalities")
    if judges and start == "package":
        raise ConfigError("option start=package: judges are trained from scratch")
    if paper and (anchor, own_share, environment_noise) != ("own", OWN_SHARE, ENVIRONMENT_NOISE):
        raise ConfigError("option loss=paper: it has no anchor, no own_share and no environment_noise")
    if distill and (start != "package" or merged or paper or judges or timed or parts or tokens != "pooled"):
        raise ConfigError("option distill: it distils the packaged model as it is: start=package, and no other variant")
    if distill < 0:
        raise ConfigError(f"option distill: expected a number of steps, or 0 for none, got {distill}")
    if students and (not distill or students <= distill or students % distill):
        why = "a multiple of the steps that they are distilled to (option distill)"
        raise ConfigError(f"option students: expected their steps, {why}, got {students} and distill={distill}")
    data = sources(names, merged, length)
    if judges:
        data["judge"] = world(names, "judge", 40_000, seed=1)
    if timed and not set(TIMED) <= set(names):
        raise ConfigError("option timed: needs audio and video")
    share, noise = (0.0, 0.0) if paper else (own_share, environment_noise)
    if parts and (start != "package" or timed or merged or paper):
        raise ConfigError("option parts: it goes with start=package alone; a whole run has these stages anyway")
    variant = Variant(names, length, "paper" if paper else anchor, share, noise, merged, timed)
    trained = stages(variant)
    if distill:
        # Those of students are named by the command: the packaged model without its guidance is no teacher.
        model, weights, initialized = packaged_model(names, tokens, timed, parts), "" if students else DEFAULT, ()
        trained = distil_stages(variant, distill, students, GUIDANCE)
    elif start == "package":
        model, weights = packaged_model(names, tokens, timed, parts), DEFAULT
        there = tuple(CoDi(packaged()).component_names())
        trained, initialized = from_package(trained, there, "timing" if timed else "parts" if parts else "")
    else:
        model, weights, initialized = digit_world.model(modalities=names, tokens=tokens, timed=timed), "", ()
    # Of other tokens the norm does not say how much they know.
    anchored = not paper and anchor != "none" and tokens == "pooled"
    generate = GenerateConfig(
        {name: GUIDANCE[name] if anchored else dataclasses.replace(GUIDANCE[name], limit=0.0) for name in names},
        steps=10,
        environment="by_norm" if anchored else "mean",
        # The paper's loss shares one t in training, so no output may be delayed in sampling.
        delay={} if paper else {name: steps for name, steps in DELAY.items() if name in names},
    )
    config = RunConfig(
        model=model,
        weights=weights,
        initialized=initialized,
        sources=data,
        stages=judge_stages(names) if judges else trained,
        generate=few_steps(generate, distill) if distill else generate,
        evaluate=evaluation(
            names, n, floors, variant=merged or paper or tokens == "map" or start == "package", pretrained=pretrained
        ),
    )
    few = {"n": 12, "reference": 32, "combinations": 1, "floors": None}
    return shrink(config, few) if tiny else config
