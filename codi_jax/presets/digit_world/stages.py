"""The stages of the packaged model, and of the judges that measure it."""

import dataclasses
import re
from collections.abc import Iterable
from typing import Any, Literal

from codi_jax.digit_world import CARRIES, FACTORS
from codi_jax.presets.digit_world import MODALITIES
from codi_jax.presets.stages import Stages, adamw, stage
from codi_jax.train.recipe import StageConfig, named_sources

Align = Literal["own", "partner", "text", "none", "paper"]
TIMED = ("audio", "video")  # the modalities that have a time
IN_PARTS = ("image", "audio")  # whose parts have an encoder of their own; a frame of a video the tower reads as it is
POOLS = ("text+image", "text+audio", "text+video", "audio+video")
STEPS = {  # training steps of every stage at length 1
    "codec.text": 900, "codec.image": 1000, "codec.audio": 800,
    "bridging.text+image": 900, "bridging.text+audio": 500, "bridging.text+video": 500,
    "ldm.text": 2200, "ldm.image": 1000, "ldm.audio": 550, "ldm.video": 2400,
    "environment.text": 600, "environment.image": 600, "environment.audio": 450, "environment.video": 400,
    "joint.text+image": 1300, "joint.text+audio": 450, "joint.audio+video": 500,
    "joint.image+audio": 250, "joint.image+video": 200, "joint.text+video": 200,
    "timing.encoders": 1500, "timing.audio+video": 2000, "parts.image": 700, "parts.audio": 700,
    "distil.text": 1200, "distil.image": 1200, "distil.audio": 1200, "distil.video": 800,
}  # fmt: skip
OWN_SHARE = 0.5  # with 0, a video takes the colour of a text beside it in 0.3 to 0.5 of the samples
ENVIRONMENT_NOISE = 0.7  # with 0, X learns the place of the partner's tokens, and reads others' the worse the longer
LEAST_LENGTH = {"codec.text": 3.0, "codec.image": 1.0, "codec.audio": 1.0}  # of codecs: what they lose, no stage learns
WARMUP = 50  # steps, but at most a tenth of those of the stage
SECONDS = {  # of every stage on one core, for `scheduling_weight`
    "codec.text": 35, "codec.image": 55, "codec.audio": 40,
    "bridging.text+image": 45, "bridging.text+audio": 35, "bridging.text+video": 100,
    "encode.text+image": 10, "encode.text+audio": 15, "encode.text+video": 20, "encode.audio+video": 20,
    "encode.merged": 40,
    "ldm.text": 95, "ldm.image": 85, "ldm.audio": 70, "ldm.video": 600,
    "environment.text": 15, "environment.image": 25, "environment.audio": 25, "environment.video": 55,
    "joint.text+image": 130, "joint.text+audio": 65, "joint.audio+video": 250,
    "joint.image+audio": 60, "joint.image+video": 120, "joint.text+video": 120,
    "timing.encoders": 450, "timing.audio+video": 900, "parts.image": 60, "parts.audio": 90,
    "distil.text": 320, "distil.image": 510, "distil.audio": 600, "distil.video": 1130,
}  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Variant:
    """What the argument of the config changes in the recipe.

    Attributes:
      modalities: of the model.
      length: every stage has `length` times the steps of `STEPS`; a codec has at least `LEAST_LENGTH` times those.
      align: how V is trained: by the anchor to the modality's `own` prompt embedding, to its `partner`'s or to that of
        the `text` of a pair (then not beside other modalities); by `none`, the losses of the denoisers alone; or by the
        `paper`'s loss, contrastive between V_A and V_B with one t for both. The last two have no stages for V alone;
        their steps are added to those of V and X together.
      own_share: of V of a modality in its own environment, in a pair without text; the paper has none.
      environment_noise: of the environment in the same pairs.
      merged: whether samples hold all modalities from the denoisers on; then each modality prompts every denoiser, and
        every pair of outputs is trained.
      timed: whether audio and video have attention in time.
    """

    modalities: tuple[str, ...]
    length: float = 1.0
    align: Align = "own"
    own_share: float = OWN_SHARE
    environment_noise: float = ENVIRONMENT_NOISE
    merged: bool = False
    timed: bool = False

    @property
    def trains_v_alone(self) -> bool:
        """Whether there are stages that train V by the anchor alone."""
        return self.align in ("own", "partner", "text")

    def stage(
        self, name: str, objective: str, modalities: tuple[str, ...], source: str | tuple[str, ...],
        learning_rate: float = 2e-3, weight_decay: float = 0.01, **options,
    ) -> StageConfig:  # fmt: skip
        """Stage `name`, GROUP.NAME, with its steps of `STEPS` and its seconds of `SECONDS`."""
        length = max(self.length, LEAST_LENGTH.get(name, 0.0))
        more = 1.5 if not self.trains_v_alone and name.startswith("joint.") else 1.0
        steps = round(STEPS.get(name, 0) * length * more)
        return stage(
            objective, modalities, source, steps=steps, scheduling_weight=SECONDS[name] * length * more,
            optimizer=adamw(learning_rate, min(WARMUP, steps // 10), weight_decay), **options,
        )  # fmt: skip

    def encoded(self, *pools: str) -> tuple[str, ...]:
        """The encode stages of some pools."""
        return ("encode.merged",) if self.merged else tuple(f"encode.{pool}" for pool in pools)


TOWERS = {"text": "clip_text", "image": "clip_vision", "audio": "clap_audio", "video": "clip_video"}
UNETS = {"text": "text_unet", "image": "vision_unet", "audio": "audio_unet", "video": "video_unet"}
CODECS = {"text": "text_codec", "image": "vision_codec", "audio": "audio_codec"}


def codec(variant: Variant, name: str) -> StageConfig:
    """Stage codec.NAME."""
    source, batch_size = {"text": ("captions", 128), "image": ("frames", 16), "audio": ("text+audio", 16)}[name]
    return variant.stage(
        f"codec.{name}", "codec", (name,), source, trainable=(f"{CODECS[name]}/.*",), batch_size=batch_size,
        learning_rate=2e-3 if name == "text" else 4e-3,
        settings={"kl_weight": 0.005, "free_bits": 0.1} if name == "text" else {"kl_weight": 1e-5},
    )  # fmt: skip


def bridging(variant: Variant, name: str) -> StageConfig:
    """Stage bridging.text+NAME; the one with image trains the tower of text, too.

    The tower of video starts from that of images and sees stills among the videos (`recipe.sources`). From scratch and
    without stills it takes a digit in a motion that it never had in training for another digit.
    """
    first = name == "image"
    towers = ("text", "image") if first else (name,)
    start: dict[str, Any] = {"init_from": {"clip_video": "clip_vision"}} if name == "video" else {}
    return variant.stage(
        f"bridging.text+{name}", "bridging", ("text", name), f"text+{name} whole", weight_decay=1.0, batch_size=64,
        trainable=(*(f"{TOWERS[tower]}/.*" for tower in towers), "bridging/.*"),
        **start,
        depends_on=() if first else ("bridging.text+image",),
        settings={"max_scale": 7.0, **({"views": ("text",)} if first else {})},
    )  # fmt: skip


def encode(variant: Variant, pool: str, modalities: tuple[str, ...], of: tuple[str, ...]) -> StageConfig:
    """Stage encode.POOL; it depends on the codecs and towers of the modalities `of`."""
    codecs = [f"codec.{'image' if name == 'video' else name}" for name in of]
    towers = [f"bridging.text+{'image' if name == 'text' else name}" for name in of]
    depends_on = tuple(dict.fromkeys([*codecs, *towers]))
    return variant.stage(
        f"encode.{pool}", "encode", modalities, pool, learning_rate=1e-3, depends_on=depends_on, batch_size=250
    )


def ldm(variant: Variant, name: str) -> StageConfig:
    """Stage ldm.NAME. Text prompts the others; all others prompt text."""
    others = tuple(other for other in variant.modalities if other != name)
    prompts = others if variant.merged or name == "text" else ("text",)
    pools = variant.encoded(*(f"text+{other}" for other in (others if name == "text" else (name,))))
    sources = variant.modalities if variant.merged or name == "text" else ("text",)
    settings: dict[str, Any] = {"prompts": {"sources": sources, "drop": 0.15, "noise": 1.0 if name == "text" else 0.7}}
    if name == "video":
        # Appearance is learnt at low noise. Motion is learnt at noise levels that hide eight frames, so t is shifted.
        settings["shift"] = 8.0
    start: dict[str, Any] = {"init_from": {"video_unet": "vision_unet"}} if name == "video" else {}
    return variant.stage(
        f"ldm.{name}", "ldm", (name, *prompts), pools if name == "text" and not variant.merged else pools[0],
        trainable=(f"{UNETS[name]}/.*",), batch_size=16 if name == "video" else 64, settings=settings,
        depends_on=(*pools, *(("ldm.image",) if name == "video" else ())),
        **start,
    )  # fmt: skip


def alignment(variant: Variant, pair: tuple[str, str], losses: tuple[str, ...], aligned: tuple[str, ...]) -> dict:
    """Settings of latent_alignment; most prompts are dropped, since the environment matters without a prompt.

    The target of V is the modality's own prompt: that of its partner may lack factors, which V would then not encode.
    """
    settings = {"losses": losses, "aligned": aligned, "prompts": {"sources": pair, "drop": 0.8, "noise": 0.3}}
    # Text shows all that there is. Beside it an own share is not needed, and audio then collapses to few motions.
    if losses and "text" not in pair and not variant.merged:
        extra = {"own_share": variant.own_share, "environment_noise": variant.environment_noise}
        settings |= {name: value for name, value in extra.items() if value}
    if variant.align == "paper":
        return {**settings, "align": "contrastive", "timesteps": "shared"}
    if variant.align == "none" or not aligned:
        return {**settings, "align": "none"}
    return {**settings, "target": variant.align}


def environment(variant: Variant, name: str) -> StageConfig:
    """Stage environment.NAME: V by the anchor alone. A step without denoisers is cheap, and V needs many samples."""
    pair = ("text", "image" if name == "text" else name)
    (encoded,) = variant.encoded("+".join(pair))
    return variant.stage(
        f"environment.{name}", "latent_alignment", pair, encoded, trainable=(f"{name}_environment/.*",),
        depends_on=((encoded,) if variant.merged else ()) + (f"ldm.{name}",),
        batch_size=32 if name == "video" else 128, settings=alignment(variant, pair, (), (name,)),
    )  # fmt: skip


def joint(variant: Variant, name: str, aligned: tuple[str, ...], after: tuple[str, ...]) -> StageConfig:
    """Stage joint.NAME: V and X of the modalities `aligned`, after the stages `after`."""
    first, second = name.split("+")
    pair = (first, second)
    (encoded,) = variant.encoded(name)
    trained = aligned if variant.align != "text" or "text" in pair else ()  # those whose V is trained, too
    return variant.stage(
        f"joint.{name}", "latent_alignment", pair, encoded,
        depends_on=((encoded,) if variant.merged else ()) + after,
        trainable=(*(f"{m}_environment/.*" for m in trained), *(f"{m}_cross/.*" for m in aligned)),
        batch_size=16 if "video" in pair else 32, settings=alignment(variant, pair, pair, trained),
    )  # fmt: skip


def joint_stages(variant: Variant) -> dict[str, StageConfig]:
    """The stages joint.*: each pair trains V and X of what no stage before has trained."""
    last = "joint.image+audio" if variant.merged else "joint.text+audio"
    encoded = () if variant.merged else variant.encoded("audio+video")
    before = {  # pair -> the modalities whose V and X it trains; those whose V is trained before; other stages before
        "text+image": (("text", "image"), ("text", "image"), ()),
        "text+audio": (("audio",), ("audio",), ("joint.text+image",)),
        "audio+video": (("video",), ("video",), (*encoded, last)),
    }
    if variant.merged:
        before["image+audio"] = (("audio",), (), ("joint.text+audio",))
        before["image+video"] = (("video",), (), ("joint.audio+video",))
        before["text+video"] = (("video",), (), ("joint.image+video",))
    stage_of_v = "environment" if variant.trains_v_alone else "ldm"
    return {
        name: joint(variant, name, aligned, (*(f"{stage_of_v}.{m}" for m in own), *after))
        for name, (aligned, own, after) in before.items()
    }


def timing(variant: Variant) -> dict[str, StageConfig]:
    """The stages timing.*: the encoders alone, then attention in time, beside encoders, V and X as they are.

    An event has no place in the prompt space, so V has no target for it. Half of the prompts are dropped: prompts and V
    say what is shown, and what is left to say is when.
    """
    (encoded,) = variant.encoded("audio+video")
    trainable = tuple(f"{name}_timing" for name in TIMED)
    encoders = variant.stage(
        "timing.encoders", "timing", TIMED, encoded, depends_on=tuple(f"ldm.{name}" for name in TIMED), batch_size=64,
        trainable=tuple(f"{name}/encoder/.*" for name in trainable),
    )  # fmt: skip
    attention = variant.stage(
        "timing.audio+video", "latent_alignment", TIMED, encoded, depends_on=("timing.encoders", "joint.audio+video"),
        trainable=tuple(f"{name}/attention/.*" for name in trainable), batch_size=16,
        settings={
            "losses": TIMED, "aligned": (), "align": "none", "timed": True, "prompts": {"sources": TIMED, "drop": 0.5},
        },
    )  # fmt: skip
    return {"encoders": encoders, "audio+video": attention}


def parts(variant: Variant, name: str) -> StageConfig:
    """Stage parts.NAME: the encoder of what is kept of an output."""
    return variant.stage(
        f"parts.{name}", "parts", (name,), f"text+{name} whole", depends_on=(f"bridging.text+{name}",), batch_size=64,
        trainable=(f"{name}_parts/.*",), init_from={f"{name}_parts": TOWERS[name]}, learning_rate=1e-3,
    )  # fmt: skip


def stages(variant: Variant) -> Stages:
    """`config.stages`, GROUP -> NAME -> stage."""
    pairs = {pool: tuple(pool.split("+")) for pool in POOLS}
    everything: Stages = {
        "codec": {name: codec(variant, name) for name in CODECS},
        "bridging": {f"text+{name}": bridging(variant, name) for name in MODALITIES[1:]},
        "encode": {pool: encode(variant, pool, pair, pair) for pool, pair in pairs.items()},
        "ldm": {name: ldm(variant, name) for name in MODALITIES},
        "environment": {name: environment(variant, name) for name in MODALITIES} if variant.trains_v_alone else {},
        "joint": joint_stages(variant),
        "parts": {name: parts(variant, name) for name in IN_PARTS},
    }
    if variant.timed:
        everything["timing"] = timing(variant)
    if variant.merged:
        everything["encode"] = {"merged": encode(variant, "merged", MODALITIES, MODALITIES)}
    return {
        group: {name: s for name, s in named.items() if set(s.modalities) <= set(variant.modalities)}
        for group, named in everything.items()
    }


def from_package(stages: Stages, components: Iterable[str], only: str = "") -> tuple[Stages, tuple[str, ...]]:
    """The stages that train V and X, and what they depend on, for a run whose other components are a packaged model's.

    Args:
      stages: of a whole run.
      components: of the model.
      only: the group of stages that is trained instead of V and X: `timing` or `parts`.

    Returns:
      The stages that train V and X, denoisers, too, where all modalities prompt them, or the stages of `only`; and
      the encode stages that these read. And the components that they train.
    """
    named = {f"{group}.{name}": s for group, of_group in stages.items() for name, s in of_group.items()}
    merged = "encode.merged" in named
    groups = (only,) if only else ("environment", "joint", *(("ldm",) if merged else ()))
    kept = {name for name in named if name.split(".")[0] in groups}
    kept |= {source for name in kept for source in named_sources(named[name].source) if source in named}
    trained = tuple(
        component for component in components if any(
            re.fullmatch(pattern, f"{component}/x") for name in kept for pattern in named[name].trainable
        )
    )  # fmt: skip
    out: Stages = {}
    for name in named:
        if name in kept:
            group, leaf = name.split(".", 1)
            needs = dict.fromkeys((*named[name].depends_on, *named_sources(named[name].source)))
            out.setdefault(group, {})[leaf] = dataclasses.replace(
                named[name], depends_on=tuple(need for need in needs if need in kept)
            )
    return out, trained


def judge_stages(modalities: Iterable[str]) -> Stages:
    """`config.stages` of judges and similarity towers, trained on glyphs and voices that no generator sees."""
    judges = {
        name: stage(
            "judge", (name,), "judge", trainable=(f"{name}_judge/.*",), batch_size=128, steps=1500,
            optimizer=adamw(2e-3, warmup=WARMUP, weight_decay=0.05),
            settings={
                "factors": {factor: len(FACTORS[factor]) for factor in CARRIES[name]},
                "survive_blur": ("colour",) if "colour" in CARRIES[name] else (),
            },
        ) for name in modalities if name != "text"
    }  # fmt: skip
    similarity = {
        "all": stage(
            "similarity", modalities, "judge", trainable=tuple(f"{name}_similarity/.*" for name in modalities),
            batch_size=32, optimizer=adamw(2e-3, warmup=WARMUP, weight_decay=0.5), num_stats_samples=0, steps=800,
            settings={"views": ("text",)},
        )
    }  # fmt: skip
    return {"judge": judges, "similarity": similarity}
