"""What a recipe trained together."""

from types import SimpleNamespace

from codi_jax.evaluate.trained import paired, together


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
    assert paired(STAGES, "text", "image") and paired(STAGES, "audio", "text")
    assert not paired(STAGES, "image", "audio")


def test_networks_that_only_judge_pair_nothing():
    judged = [stage("similarity", "text", "image", "audio"), stage("judge", "image", "audio")]
    assert not paired([*STAGES, *judged], "image", "audio")


def test_a_mixture_of_pools_pairs_nothing():
    mixture = stage("ldm", "text", "image", "audio", source=("encode.text+image", "encode.text+audio"))
    assert not paired([*STAGES, mixture], "image", "audio")
    assert not paired([mixture], "text", "image")  # the stages that made the pools do


def test_a_modality_is_paired_with_itself_if_it_prompted_its_own_denoiser():
    assert paired(STAGES, "audio", "audio")
    assert not paired(STAGES, "text", "text")


def test_trained_together_means_exactly_these_outputs():
    assert together(STAGES, ("audio", "text"))
    assert not together(STAGES, ("text", "image"))
    assert not together(STAGES, ("text", "image", "audio"))
