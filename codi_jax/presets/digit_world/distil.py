"""The stages that distil the packaged model to few steps without guidance, one for each modality."""

import dataclasses

from codi_jax.diffusion.guidance import ClassifierFreeGuidance
from codi_jax.objectives.distillation import teacher_of
from codi_jax.presets.digit_world.stages import POOLS, UNETS, Variant, encode
from codi_jax.presets.stages import Stages
from codi_jax.sampling.config import GenerateConfig
from codi_jax.train.recipe import StageConfig

TEACHER_STEPS = 12  # of the teacher, at least; about those of the full sampler
IN_TURN = 0.4  # of the training, for students of students: they begin near their teacher
ORDER = ("text", "image", "audio", "video")  # in which outputs of students start; of the orders tried the best
# How much their tokens count for the others: a caption tells all that is told, an image a digit and a colour. With
# equal weights an image that is almost finished dilutes what a caption tells a video of its motion.
WEIGHTS = {"text": 8.0, "image": 1.0, "audio": 2.0, "video": 2.0}
NO_GUIDANCE = ClassifierFreeGuidance(1.0, 1.0)


def distil(variant: Variant, name: str, steps: int, substeps: int, guidance: ClassifierFreeGuidance) -> StageConfig:
    """Stage distil.NAME: the denoiser of a modality but for its time embedding, which V uses, and X in it."""
    pools = tuple(pool for pool in POOLS if name in pool.split("+") and set(pool.split("+")) <= set(variant.modalities))
    others = tuple(m for m in variant.modalities if m != name and any(m in pool.split("+") for pool in pools))
    encoded = variant.encoded(*pools)
    student = (UNETS[name], f"{name}_cross")
    # One output among all has this share in the environment of another. Of two outputs it would be all of it, but other
    # shares, too, are to be in training: a student without an own share agreed less with the other output.
    least = min(0.5, 1 / max(len(variant.modalities) - 1, 1))
    return variant.stage(
        f"distil.{name}", "distillation", (name, *others), encoded if encoded[1:] else encoded[0],
        trainable=(f"!{UNETS[name]}/time/.*", *(f"{component}/.*" for component in student)),
        init_from={teacher_of(component): component for component in student},
        depends_on=encoded, batch_size=16 if name == "video" else 64, learning_rate=1e-3,
        settings={
            "steps": steps, "substeps": substeps, "guidance": dataclasses.asdict(guidance),
            "prompts": {"sources": (name, *others), "drop": 0.5, "noise": 0.3}, "own_share": 1 - least, "alone": 0.2,
        },
    )  # fmt: skip


def distil_stages(variant: Variant, steps: int, students: int, guidance: dict[str, ClassifierFreeGuidance]) -> Stages:
    """`config.stages` of a run that distils: what its stages read, and one for each modality.

    Args:
      variant: of the recipe.
      steps: of the students that are trained.
      students: the steps of those that are the teachers, without guidance; 0 for the packaged model.
      guidance: of the packaged model.
    """
    substeps = students // steps if students else -(-TEACHER_STEPS // steps)
    if students:
        variant = dataclasses.replace(variant, length=IN_TURN * variant.length)
    pairs = {pool: tuple(pool.split("+")) for pool in POOLS}
    return {
        "encode": {
            pool: encode(variant, pool, pair, ())
            for pool, pair in pairs.items()
            if set(pair) <= set(variant.modalities)
        },
        "distil": {
            name: distil(variant, name, steps, substeps, NO_GUIDANCE if students else guidance[name])
            for name in variant.modalities
        },
    }


def few_steps(full: GenerateConfig, steps: int) -> GenerateConfig:
    """`config.generate` of students of this many steps: no guidance, and one output starts a step after the other.

    Outputs that start together decide in their first step, when they show each other nothing: audio and video agreed in
    .58 of the samples, and in .92 with audio a step ahead (4 steps, validation samples, n = 64).
    """
    names = [name for name in ORDER if name in full.guidance]
    guidance, weights = dict.fromkeys(full.guidance, NO_GUIDANCE), {name: WEIGHTS[name] for name in names}
    delay = {name: late for late, name in enumerate(names)}
    return dataclasses.replace(full, guidance=guidance, steps=steps, delay=delay, environment_weights=weights)
