"""The release's four files at their real size, by shapes: every key has one kind, every leaf is covered.

`fixtures/release_manifest.json.gz` holds the keys and shapes of the release's modules, built by its own code.
"""

import collections
import functools
import gzip
import json
import math
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from codi_jax.codi import CoDi
from codi_jax.config import ConfigError
from codi_jax.interop import release
from codi_jax.interop.convert import read_release
from codi_jax.interop.names import param_sites
from configs import codi as paper

RELEASE = "compat=release"
MANIFEST = Path(__file__).parents[1] / "fixtures" / "release_manifest.json.gz"


@functools.lru_cache
def manifest() -> dict:
    return json.loads(gzip.decompress(MANIFEST.read_bytes()))


@functools.lru_cache
def stored() -> dict[str, np.ndarray]:
    """The whole state dict of the release; every tensor is a broadcast scalar."""
    integers = set(manifest()["integers"])
    return {
        key: np.broadcast_to(np.int64(0) if key in integers else np.float32(0), shape)
        for modules in manifest()["files"].values()
        for module in modules.values()
        for key, shape in module.items()
    }


@functools.lru_cache
def codi(argument: str) -> CoDi:
    return CoDi.from_config(paper.get_config(argument).model)


@functools.lru_cache
def reader(argument: str) -> release.Reader:
    return release.Reader(codi(argument))


def test_every_key_is_a_leaf_an_alias_recomputed_or_unread_for_a_reason():
    kinds = collections.Counter(reader(RELEASE).kind(key)[0] for key in stored())
    assert set(kinds) == {"leaf", "alias", "recomputed", "unread"}
    assert sum(kinds.values()) == len(stored()) == 2256 + 1122 + 1122 + 1597 + 12
    assert kinds["alias"] == 1 and reader(RELEASE).kind("optimus.decoder.lm_head.weight")[0] == "alias"
    # The noise schedule, the mel front end, causal masks, position ids; window indices and masks of the audio tower.
    assert kinds["recomputed"] == 12 + 3 + 12 + 2 + (18 + 8)
    # A temperature, two tables in 24 layers, a counter, two layers of the classifier, two of the second head.
    assert kinds["unread"] == 1 + 2 * 24 + 1 + 4 + 4


@pytest.mark.parametrize("argument", [RELEASE, pytest.param("compat=true", marks=pytest.mark.slow)])
def test_every_leaf_of_every_component_is_covered_and_fits(argument):
    state = {key: value for key, value in stored().items() if reader(argument).owners(key)}
    assert not any(np.issubdtype(value.dtype, np.integer) for value in state.values())
    claimed = collections.defaultdict(set)
    for key in state:
        for component, (path, tied) in reader(argument).owners(key).items():
            assert tied or path not in claimed[component], f"two keys for {component}/{path}"
            claimed[component].add(path)
    assert claimed == {component: set(leaves) for component, leaves in reader(argument).leaves.items()}
    found, ignored = read_release(codi(argument), stored())  # strict: shapes, types, ties
    assert found.keys() == codi(argument).component_names().keys()
    assert not any(part.missing for part in found.values())
    assert ignored.keys() == stored().keys() - state.keys()


def test_exporting_gives_the_same_names_and_shapes():
    exported = {}
    for component, part in reader(RELEASE).parts.items():
        for site in param_sites(reader(RELEASE).leaves[component], part.rules):
            ours = np.broadcast_to(np.float32(0), reader(RELEASE).leaves[component][site.path].shape)
            exported[part.prefix + site.key] = site.layout.to_theirs(ours).shape
    assert exported == {key: value.shape for key, value in stored().items() if reader(RELEASE).owners(key)}


def test_parameter_counts_are_those_of_the_release():
    """The parameter counts of the release's networks, less unread weights."""
    count = {c: sum(math.prod(x.shape) for x in leaves.values()) for c, leaves in reader(RELEASE).leaves.items()}
    unets = {
        name: sum(count[f"{name}_{part}"] for part in ("unet", "environment", "cross"))
        for name in ("vision", "text", "audio")
    }
    assert unets == {"vision": 1_772_784_247, "text": 2_048_385_408, "audio": 431_309_032}
    assert count["vision_codec"] == 83_653_863
    assert count["text_codec"] == 109_489_920 + 132_109_824
    assert count["audio_codec"] + count["vocoder"] == 110_641_770
    assert count["vocoder"] == 55_264_897
    assert count["clip_text"] + count["clip_vision"] == 737_647_217 - 1 - 24 * 2 * 30 * 1024  # the scale, unread tables
    unread = (527 * 2048 * 2 * 3 + 527) + (527 * 527 + 527) + 2 * (768 * 768 + 768)
    assert count["clap_audio"] == 280_951_959 + 2 * 64 - unread  # with the statistics of its mel bins


@pytest.mark.slow
def test_a_model_without_video_or_audio_ignores_their_keys():
    model = CoDi.from_config(paper.get_config("modalities=text+image").model)
    found, ignored = read_release(model, stored())
    assert found.keys() == model.component_names().keys()
    reasons = set(ignored.values())
    assert "of a modality that this model does not have" in reasons
    assert "a temporal layer, which a model without video does not have" in reasons


def test_a_model_of_another_size_is_refused_by_key():
    config = paper.get_config("modalities=text")
    config.model.modalities.text.codec.encoder.layers = 11
    with pytest.raises(ConfigError, match=r"unexpected: optimus\.encoder\.encoder\.layer\.11\..*"):
        read_release(CoDi.from_config(config.model), stored())


def test_an_unknown_key_is_named():
    state = {**stored(), "autokl.encoder.nothing": np.zeros(1, np.float32)}
    with pytest.raises(ConfigError, match=r"unexpected: autokl\.encoder\.nothing"):
        read_release(codi(RELEASE), state)


def test_files_from_before_august_2023_may_lack_the_last_stage_of_v():
    older = {key: value for key, value in stored().items() if ".connecters_out.6." not in key}
    for key in older:
        if "unet_audio" in key and "connecters_in" in key and key.endswith(("attn2.to_k.weight", "attn2.to_v.weight")):
            older[key] = np.broadcast_to(np.float32(0), (older[key].shape[0], 768))
    found, _ = read_release(codi(RELEASE), older)
    for component in ("vision_environment", "text_environment", "audio_environment"):
        assert {path.split("/")[0] for path in found[component].missing} == {"head"}
    assert {path.split("/")[-2] for path in found["audio_cross"].missing} == {"key", "value"}
    assert not found["text_cross"].missing and not found["audio_unet"].missing


def test_a_modality_that_the_release_does_not_have_is_named():
    codi = SimpleNamespace(modalities={"text": None, "depth": None})
    with pytest.raises(ConfigError, match="the release has no depth; it has text, image, video, audio"):
        release.parts(codi)
