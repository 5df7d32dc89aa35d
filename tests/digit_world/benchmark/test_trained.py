"""Which modalities a recipe trains together."""

from types import SimpleNamespace

import pytest

from codi_jax.data.source import make_source
from codi_jax.digit_world.benchmark.trained import JUDGE_OBJECTIVES, is_paired, trained_together, wordings
from codi_jax.presets import demo
from codi_jax.presets.digit_world import recipe


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


def test_wordings_are_unseen_if_those_of_all_sources_are():
    trained, unseen, other = (SimpleNamespace(wordings=w) for w in ("trained", "unseen", None))
    assert wordings([unseen, unseen]) == "unseen" and wordings([unseen, trained]) == "trained"
    assert wordings([unseen, other]) is None and wordings([object()]) is None


@pytest.mark.parametrize(
    "config",
    [demo.run(), recipe.run(), recipe.run(modalities="text+image"), recipe.run(pools="merged")],
    ids=["demo", "digit_world", "a subset", "merged"],
)
def test_no_caption_or_prompt_of_an_evaluation_occurs_in_training(config):
    """With the templates of tests/digit_world/test_captions.py, which share no subject and no order of clauses."""

    def text_only(name):
        return make_source({**config.sources[name], "modalities": ("text",), "merged": False}, name)

    def texts(source, n):
        text = source.read(range(min(n, len(source))))["text"]
        return {*text["caption"].tolist(), *text["prompt"].tolist()}

    stages = [stage for group in config.stages.values() for stage in group.values()]
    named = {s.source for s in stages if isinstance(s.source, str) and s.objective not in JUDGE_OBJECTIVES}
    training = [text_only(name) for name in sorted(named & config.sources.keys())]
    tested = [text_only(config.evaluate[name]) for name in ("seen", "held_out")]
    assert len(training) > 2 and wordings(tested) == "unseen"
    assert all(source.config.split == "train" and source.wordings == "trained" for source in training)
    seen = set().union(*(texts(source, 3000) for source in training))
    assert len(seen) > 1000 and not seen & set().union(*(texts(source, 2000) for source in tested))
