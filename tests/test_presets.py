"""Presets: models of known sizes by name, whose options are checked; those of users."""

import dataclasses

import pytest

import codi_jax
from codi_jax import CoDi, presets
from codi_jax.codi import CoDiConfig
from codi_jax.config import ConfigError
from codi_jax.presets import demo
from codi_jax.presets.digit_world.recipe import run


def test_presets_are_listed_by_name():
    assert codi_jax.presets is presets
    assert presets.names() == ("codi", "digit_world", "demo")


def test_a_preset_makes_a_model():
    codi = CoDi.from_preset("digit_world", modalities=("image", "text"))
    assert tuple(codi.modalities) == ("text", "image") and codi.config == run(modalities="text+image").model
    release = CoDi.from_preset("codi", compat="release", tokenizers="digit_world")
    assert release["image"].components["environment"] == release["video"].components["environment"]


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("coddi", {}, "no preset 'coddi' (did you mean codi?); there are codi, "),
        ("codi", {"compact": "release"}, "preset codi: no option 'compact' (did you mean compat?); there are compat, "),
        ("codi", {"compat": "relase"}, "preset codi: option compat: expected one of 'true', 'release', got 'relase'"),
        ("codi", {"size": "x"}, "preset codi: option size: expected int, got 'x'"),
        ("codi", {"modalities": "imag"}, "preset codi: option modalities: no imag (did you mean image?); there are "),
        ("codi", {"size": 100, "modalities": "image"}, "config.model.modalities.image.size: 100 is not a multiple "),
        ("demo", {"tiny": True}, "preset demo: no option 'tiny'; there are none"),
    ],
)
def test_what_is_wrong_is_one_line(name, options, message):
    with pytest.raises(ConfigError) as error:
        CoDi.from_preset(name, **options)
    assert message in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"length": "x"}, "option length: expected float, got 'x'"),
        ({"pool": "merged"}, r"no option 'pool' \(did you mean pools\?\); there are modalities, length, "),
        ({"tiny": 1}, "option tiny: expected bool, got 1"),
        ({"pools": "merged", "modalities": "text+image"}, "option pools=merged: needs all modalities"),
        ({"n": 3}, "config.evaluate: expected n >= 4"),
    ],
)
def test_the_options_of_a_recipe_are_checked(options, message):
    with pytest.raises(ConfigError, match=f"^{message}"):
        run(**options)


def test_configs_are_checked_when_they_are_made():
    with pytest.raises(ConfigError, match=r"^TextConfig\.length: expected int, got 'x'$"):
        dataclasses.replace(demo.text(), length="x")
    with pytest.raises(ConfigError, match=r"^config\.model\.modalities\.text: expected a mapping for TextConfig"):
        CoDiConfig({"text": demo.image()}, width=64)
    with pytest.raises(ConfigError, match=r"^config\.model\.modalities\.text\.codec: missing; TextConfig needs it$"):
        CoDiConfig({"text": {}}, width=64)


@pytest.mark.usefixtures("restored_registries")
def test_a_preset_of_a_user():
    @codi_jax.register("preset", "wide")
    def wide(*, width: int = 64) -> CoDiConfig:
        return dataclasses.replace(demo.model(), environment_width=width)

    assert CoDi.from_preset("wide", width=128).config.environment_width == 128 and "wide" in presets.names()
    with pytest.raises(ConfigError, match=r"^preset wide: option width: expected int, got 1\.5$"):
        CoDi.from_preset("wide", width=1.5)
