"""Which modalities a recipe trains together."""

from types import SimpleNamespace

from codi_jax.digit_world.benchmark.trained import is_paired, trained_together


def stage(objective, *modalities, sources=(), losses=(), source="samples"):
    settings = {"prompts": {"sources": sources}, "losses": losses}
    return SimpleNamespace(objective=objective, modalities=modalities, settings=settings, source=source)


STAGES = [
    stage("bridging", "text", "image"),
    stage("bridging", "text", "audio"),
    stage("ldm", "text", "image", sources=("image",)),
    stage("ldm", "audio", "text", sources=("text", "audio")),
    stage("latent_alignment", "text", "image"),  # environment encoders only
    stage("latent_alignment", "text", "audio", losses=("text", "audio")),
]


def test_modalities_are_paired_if_samples_contain_both():
    assert is_paired(STAGES, "text", "image") and is_paired(STAGES, "audio", "text")
    assert not is_paired(STAGES, "image", "audio")


def test_stages_of_judges_do_not_pair_modalities():
    judges = [stage("similarity", "text", "image", "audio"), stage("judge", "image", "audio")]
    assert not is_paired([*STAGES, *judges], "image", "audio")


def test_a_mixture_does_not_pair_its_modalities():
    mixture = stage("ldm", "text", "image", "audio", source=("encode.text+image", "encode.text+audio"))
    assert not is_paired([*STAGES, mixture], "image", "audio")
    assert not is_paired([mixture], "text", "image")  # the stages of its sources do


def test_a_modality_is_paired_with_itself_if_it_prompts_its_denoiser():
    assert is_paired(STAGES, "audio", "audio")
    assert not is_paired(STAGES, "text", "text")


def test_outputs_are_trained_together_if_a_stage_has_exactly_these():
    assert trained_together(STAGES, ("audio", "text"))
    assert not trained_together(STAGES, ("text", "image"))
    assert not trained_together(STAGES, ("text", "image", "audio"))
