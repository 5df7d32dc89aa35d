"""The run on polymnist, from pairs of view_1 with each other modality, or from tuples that lack modalities.

With `pairs=pairs` no two modalities other than those of a pair with view_1 are ever seen together; every pool has its
own seed. With `pairs=tuples` a quarter of the tuples is complete, and each pool has the tuples with both its
modalities; there is a pool for each of the ten pairs.

V and X of all modalities are trained in one stage, whose batches come from the pools in turns; then X alone, mostly of
two views: 1500 steps more of one pair of views took their agreement from .73 to .93. In generation the environment of
an output is a mixture of the tokens of four others, of which some know nothing yet. `own_share` is 3/4, so that in
training, too, the share of the partner is anything from a quarter to all. view_1, which shows all that they share, is
the target of every V, in the pools that have it: all with `pairs=pairs`, where the environment is noisy in training,
since in generation it has outputs that were not beside the modality in training.

docs/polymnist.md says what each of these is worth. `pairs` takes 3.5 hours of processes beside other work, of which
the U-Nets of the views take 1.2 and the two joint stages 1.2; `tuples` a little more.
"""

import dataclasses
import itertools
from collections.abc import Iterable
from typing import Any, Literal

from codi_jax.config import ConfigError, checked_fields, checked_options
from codi_jax.diffusion.guidance import ClassifierFreeGuidance
from codi_jax.polymnist import LABELS, MODALITIES, VIEWS, PolyMNISTConfig
from codi_jax.presets import polymnist
from codi_jax.presets.stages import Stages, adamw, shrink, stage
from codi_jax.sampling.config import GenerateConfig
from codi_jax.train.recipe import RunConfig, StageConfig

HUB = VIEWS[0]
Pairs = Literal["tuples", "pairs"]
PUBLISHED = 220_000, 0.25  # tuples, and the fraction of them that is complete
ENCODED = {"pairs": 10_000, "tuples": 20_000}  # tuples of every pool of which latents are stored
STEPS = {  # of every stage at length 1
    "codec.views": 3000, "codec.digit": 300, "codec.quadrant": 300, "judge.views": 10000,
    "bridging.view_2": 2000, "bridging.view_3": 1200, "bridging.digit": 500, "bridging.quadrant": 400,
    "ldm.view_1": 4000, "ldm.view_2": 4000, "ldm.view_3": 4000, "ldm.digit": 1500, "ldm.quadrant": 1200,
    "environment.view_1": 1500, "environment.view_2": 1500, "environment.view_3": 1500,
    "environment.digit": 600, "environment.quadrant": 600,
    "joint.pairs": 6000, "joint.tuples": 7000, "cross.pairs": 3600, "cross.tuples": 5400,
}  # fmt: skip
SECONDS = {  # of the stages on one core, for `scheduling_weight`
    "codec.views": 200, "codec.digit": 5, "codec.quadrant": 5, "judge.views": 850,
    "bridging.view_2": 205, "bridging.view_3": 90, "bridging.digit": 15, "bridging.quadrant": 15,
    "ldm.view_1": 1000, "ldm.view_2": 1000, "ldm.view_3": 1000, "ldm.digit": 85, "ldm.quadrant": 75,
    "environment.view_1": 105, "environment.view_2": 105, "environment.view_3": 105,
    "environment.digit": 20, "environment.quadrant": 20,
    "joint.pairs": 2050, "joint.tuples": 2250, "cross.pairs": 2350, "cross.tuples": 3500,
}  # fmt: skip
ENVIRONMENT_NOISE = {"pairs": 0.3, "tuples": 0.0}
OWN_SHARE = 1 - 1 / (len(MODALITIES) - 1)
GUIDANCE = {
    **dict.fromkeys(VIEWS, ClassifierFreeGuidance(5.0, 14.0, low=0.3)),
    **dict.fromkeys(LABELS, ClassifierFreeGuidance(2.0, 3.0)),
}
# Labels lead, for they are sure of the digit first; then view_1, with which all were trained.
STEPS_OF_SAMPLING, DELAY = 20, {HUB: 6, **dict.fromkeys(VIEWS[1:], 12)}


def pools(pairs: Pairs) -> tuple[tuple[str, str], ...]:
    """The pairs of modalities that are seen together."""
    every = tuple(itertools.combinations(MODALITIES, 2))
    return every if pairs == "tuples" else tuple(pair for pair in every if HUB in pair)


def world(side: int, modalities: tuple[str, ...] = MODALITIES, **options: Any) -> dict[str, Any]:
    """A source of polymnist."""
    return {"name": "polymnist", **checked_fields(PolyMNISTConfig, side=side, modalities=modalities, **options)}


def sources(pairs: Pairs, side: int, length: float) -> dict[str, dict[str, Any]]:
    """`config.sources`, without the mixture of all pools. A pool "A+B" holds the first samples of "A+B whole"."""
    size, complete = PUBLISHED
    out = {
        "views": world(side, (HUB,), size=100_000, seed=10, shuffle_views=True),
        "labels": world(side, tuple(LABELS), size=100_000, seed=11),
        "judge": world(side, (HUB,), split="judge", size=1_000_000, seed=1, shuffle_views=True, deform=0.1),
        "val": world(side, split="val", size=2_000, seed=3),
        "test": world(side, split="test", size=2_000, seed=2),
    }
    for k, pair in enumerate(pools(pairs)):
        seed, share = (20 + k, 1.0) if pairs == "pairs" else (20, complete)
        few = max(round(min(1.0, length) * ENCODED[pairs]), 1)
        out["+".join(pair)] = world(side, pair, size=few, seed=seed, complete=share)
        out["+".join(pair) + " whole"] = world(side, pair, size=size, seed=seed, complete=share)
    return out


def mixture(of: dict[str, dict[str, Any]], pairs: Pairs, weight_of_views: float = 1.0) -> dict[str, Any]:
    """The source of batches of all pools in turns; those of two views have `weight_of_views` times the batches."""
    parts = {}
    for pair in pools(pairs):
        weight = {"weight": weight_of_views} if set(pair) <= set(VIEWS) and weight_of_views != 1 else {}
        parts["+".join(pair)] = {**of[f"{'+'.join(pair)} whole"], **weight}
    return {"name": "mixture", "whole_batches": True, "parts": parts}


@dataclasses.dataclass(frozen=True)
class Recipe:
    """The stages; `length` multiplies their steps."""

    pairs: Pairs
    length: float
    own_share: float
    environment_noise: float

    def made(self, name: str, objective: str, modalities: Iterable[str], source: str | tuple[str, ...],
             steps_of: str = "", weight_decay: float = 0.01, learning_rate: float = 2e-3, **options: Any,
             ) -> StageConfig:  # fmt: skip
        """Stage `name`, GROUP.NAME, with the steps of `STEPS[steps_of or name]`."""
        steps = max(round(STEPS.get(key := steps_of or name, 0) * self.length), 0)
        return stage(
            objective, modalities, source, steps=steps, scheduling_weight=self.length * SECONDS.get(key, 15),
            optimizer=adamw(learning_rate, min(50, steps // 10), weight_decay), **options,
        )  # fmt: skip

    def encoded(self, name: str) -> tuple[str, ...]:
        """The encode stages of the pools with a modality."""
        return tuple(f"encode.{'+'.join(pair)}" for pair in pools(self.pairs) if name in pair)

    def codecs(self) -> dict[str, StageConfig]:
        """The codec of the views, and those of the labels."""
        views = self.made("codec.views", "codec", (HUB,), "views", trainable=("view_codec/.*",), batch_size=16,
                          learning_rate=4e-3, settings={"kl_weight": 1e-5})  # fmt: skip
        return {"views": views} | {
            name: self.made(f"codec.{name}", "codec", (name,), "labels", trainable=(f"{name}_codec/.*",), batch_size=64,
                            learning_rate=1e-2) for name in LABELS
        }  # fmt: skip

    def bridging(self, name: str) -> StageConfig:
        """Stage bridging.NAME aligns the tower of a modality with that of view_1; that of view_2 trains both."""
        first = name == VIEWS[1]
        start: dict[str, Any] = {"init_from": {f"{name}_tower": f"{HUB}_tower"}} if name in VIEWS and not first else {}
        return self.made(
            f"bridging.{name}", "bridging", (HUB, name), f"{HUB}+{name} whole", weight_decay=1.0, batch_size=64,
            trainable=(*((f"{HUB}_tower/.*",) if first else ()), f"{name}_tower/.*", "bridging/.*"),
            depends_on=() if first else (f"bridging.{VIEWS[1]}",), settings={"max_scale": 7.0}, **start,
        )  # fmt: skip

    def encode(self, pair: tuple[str, str]) -> StageConfig:
        """Stage encode.A+B."""
        codecs = [f"codec.{'views' if name in VIEWS else name}" for name in pair]
        towers = [f"bridging.{VIEWS[1] if name == HUB else name}" for name in pair]
        needs = tuple(dict.fromkeys([*codecs, *towers]))
        return self.made(f"encode.{'+'.join(pair)}", "encode", pair, "+".join(pair), depends_on=needs, batch_size=250)

    def ldm(self, name: str) -> StageConfig:
        """Stage ldm.NAME; all modalities that are seen beside it prompt it."""
        others = tuple(other for other in MODALITIES if {name, other} in map(set, pools(self.pairs)))
        encoded = self.encoded(name)
        return self.made(
            f"ldm.{name}", "ldm", (name, *others), encoded if encoded[1:] else encoded[0], depends_on=encoded,
            trainable=(f"{name}_unet/.*",), batch_size=64,
            settings={"prompts": {"sources": others, "drop": 0.15, "noise": 0.7}},
        )  # fmt: skip

    def alignment(self, losses: tuple[str, ...], aligned: tuple[str, ...]) -> dict[str, Any]:
        """Settings of latent_alignment."""
        prompts = {"sources": MODALITIES, "drop": 0.8, "noise": 0.3}
        return {"losses": losses, "aligned": aligned, "prompts": prompts, "target": HUB}

    def environment(self, name: str) -> StageConfig:
        """Stage environment.NAME: V by the anchor alone, which is cheap."""
        pair = (HUB, VIEWS[1] if name == HUB else name)
        return self.made(
            f"environment.{name}", "latent_alignment", pair, f"encode.{'+'.join(pair)}", batch_size=128,
            trainable=(f"{name}_environment/.*",), depends_on=(f"ldm.{name}",), settings=self.alignment((), (name,)),
        )  # fmt: skip

    def joint_settings(self) -> dict[str, Any]:
        """Settings of the stages of X."""
        extra = {"own_share": self.own_share, "environment_noise": self.environment_noise}
        extra["optional_target"] = self.pairs == "tuples"
        return self.alignment(MODALITIES, MODALITIES) | {name: x for name, x in extra.items() if x}

    def joint(self) -> StageConfig:
        """Stage joint.all: V and X of all modalities, from media of all pools."""
        parts = tuple(f"{name}_{role}/.*" for name in MODALITIES for role in ("environment", "cross"))
        return self.made(
            "joint.all", "latent_alignment", MODALITIES, "pools", steps_of=f"joint.{self.pairs}", batch_size=32,
            trainable=parts, depends_on=tuple(f"environment.{name}" for name in MODALITIES),
            settings=self.joint_settings(),
        )  # fmt: skip

    def cross(self) -> StageConfig:
        """Stage joint.cross: X alone, in larger batches, without prompts, mostly of two views, which learn slowest."""
        alone = {"aligned": (), "align": "none", "prompts": {"sources": MODALITIES, "drop": 1.0}}
        return self.made(
            "joint.cross", "latent_alignment", MODALITIES, "pools of views", steps_of=f"cross.{self.pairs}",
            batch_size=64, depends_on=("joint.all",),
            trainable=tuple(f"{name}_cross/.*" for name in MODALITIES), settings=self.joint_settings() | alone,
        )  # fmt: skip

    def judge(self) -> StageConfig:
        """Stage judge.views: a classifier of all views, of glyphs that no other network sees."""
        factors = {name: len(values) for name, values in LABELS.items()}
        return self.made(
            "judge.views", "judge", (HUB,), "judge", trainable=(f"{HUB}_judge/.*",), batch_size=128, weight_decay=0.05,
            settings={"factors": factors, "channels": (32, 64, 128)}, num_stats_samples=0,
        )  # fmt: skip

    def stages(self) -> Stages:
        """`config.stages`."""
        return {
            "codec": self.codecs(),
            "bridging": {name: self.bridging(name) for name in MODALITIES if name != HUB},
            "encode": {"+".join(pair): self.encode(pair) for pair in pools(self.pairs)},
            "ldm": {name: self.ldm(name) for name in MODALITIES},
            "environment": {name: self.environment(name) for name in MODALITIES},
            "joint": {"all": self.joint(), "cross": self.cross()},
            "judge": {"views": self.judge()},
        }


@checked_options
def run(
    *,
    pairs: Pairs = "pairs",
    side: int = 32,
    length: float = 1.0,
    own_share: float = OWN_SHARE,
    environment_noise: float = -1.0,
    tiny: bool = False,
) -> RunConfig:
    """The config of the run.

    Args:
      pairs: `tuples`, a quarter of them complete, or `pairs` of view_1 with each other modality.
      side: of a view, a multiple of 16: 32, or 64 as published.
      length: every stage has `length` times its steps.
      own_share: largest share of V of a modality in its own environment, in joint training.
      environment_noise: of the environment in joint training; negative for the default, that of `ENVIRONMENT_NOISE`.
      tiny: a few steps per stage, for tests.

    Raises:
      ConfigError: an invalid option.
    """
    if side < 32 or side % 16:
        raise ConfigError(f"option side: expected a multiple of 16 of at least 32, got {side}")
    if length <= 0:
        raise ConfigError(f"option length: expected a positive number, got {length:g}")
    noise = ENVIRONMENT_NOISE[pairs] if environment_noise < 0 else environment_noise
    config = RunConfig(
        plugins=("codi_jax.polymnist",),
        model=polymnist.model(side),
        sources=sources(pairs, side, length),
        stages=Recipe(pairs, length, own_share, noise).stages(),
        generate=GenerateConfig(GUIDANCE, steps=STEPS_OF_SAMPLING, delay=DELAY, environment="by_norm"),
    )
    config = shrink(config, {}) if tiny else config
    pools_of = {"pools": mixture(config.sources, pairs), "pools of views": mixture(config.sources, pairs, 3.0)}
    return dataclasses.replace(config, sources={**config.sources, **pools_of})
