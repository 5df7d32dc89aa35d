"""What a recipe trained together."""

from types import SimpleNamespace

from codi_jax.evaluate.trained import is_paired, trained_together


def stage(objective, *modalities, sources=(), losses=(), source="samples"):
    settings = {"prompts": {"sources": sources}, "losses": losses}
    return SimpleNamespace(objective=objective, modalities=modalities, settings=settings, source=source)


STAGES = [
    stage("bridging", "text", "image"),
    stage("bridging", "text", "audio"),
    stage("ldm", "text", "image", sources=("image",)),
    stage("ldm", "audio", "text", sources=("text", "audio")),
    stage("latent_alignment", "text", "image"),  # environment encoders alone
    stage("latent_alignment", "text", "audio", losses=("text", "audio")),
]


def test_paired_is_what_samples_held_both():
    assert is_paired(STAGES, "text", "image") and is_paired(STAGES, "audio", "text")
    assert not is_paired(STAGES, "image", "audio")


def test_networks_that_only_judge_pair_nothing():
    judged = [stage("similarity", "text", "image", "audio"), stage("judge", "image", "audio")]
    assert not is_paired([*STAGES, *judged], "image", "audio")


def test_a_mixture_of_pools_pairs_nothing():
    mixture = stage("ldm", "text", "image", "audio", source=("encode.text+image", "encode.text+audio"))
    assert not is_paired([*STAGES, mixture], "image", "audio")
    assert not is_paired([mixture], "text", "image")  # the stages that made the pools do


def test_a_modality_is_paired_with_itself_if_it_prompted_its_own_denoiser():
    assert is_paired(STAGES, "audio", "audio")
    assert not is_paired(STAGES, "text", "text")


def test_trained_together_means_exactly_these_outputs():
    assert trained_together(STAGES, ("audio", "text"))
    assert not trained_together(STAGES, ("text", "image"))
    assert not trained_together(STAGES, ("text", "image", "audio"))
