"""Weights of feature networks in directories have the bits of their files; what is no such file is named."""

import dataclasses
import hashlib

import jax
import numpy as np
import pytest

from codi_jax.checkpoint import read_meta, save_params
from codi_jax.config import ConfigError
from codi_jax.encoders.inception import InceptionConfig
from codi_jax.encoders.vggish import VGGishConfig
from codi_jax.interop.convert import convert
from codi_jax.interop.convert_networks import convert_networks
from codi_jax.interop.families import FEATURE_WEIGHTS
from codi_jax.interop.inception import WEIGHTS, load_inception
from codi_jax.interop.names import NamesError
from codi_jax.interop.vggish import load_vggish
from tests.interop import files, paper

SMALL = InceptionConfig(classes=5, divisor=16)
TINY = VGGishConfig(channels=(2, 3, 4, 5), hidden=7, embedding=6)
CODI = {"autokl.encoder.conv_in.weight": np.zeros((2, 2), np.float32)}  # a key of the release


@pytest.fixture(autouse=True)
def small(monkeypatch):
    """Published sizes that a test can write."""
    networks = zip(FEATURE_WEIGHTS, (SMALL, TINY), strict=True)
    published = tuple(dataclasses.replace(network, published=config) for network, config in networks)
    monkeypatch.setattr("codi_jax.interop.families.FEATURE_WEIGHTS", published)


@pytest.fixture
def inception(tmp_path):
    return files.save(tmp_path / "inception.pth", files.filled(files.inception(16, 5)))


@pytest.fixture
def vggish(tmp_path):
    state = files.filled(files.vggish(TINY.channels, TINY.hidden, TINY.embedding))
    return files.save(tmp_path / "vggish.pth", state | {"pproc.pca_means": np.zeros((6, 1), np.float32)})


def test_directories_have_the_bits_of_the_files(inception, vggish, tmp_path):
    out = tmp_path / "networks"
    report = convert_networks([inception, vggish], out)
    first, second = report.components
    assert (first.component, second.component) == ("inception", "vggish")
    params = load_inception(inception, SMALL)[1]
    assert first.parameters == sum(x.size for x in jax.tree.leaves(params)) == first.bytes / 4
    assert first.dtypes == {"float32": 94 * 5 + 2} and not first.initialized
    assert sorted(set(report.ignored.values())) == [
        "a training step counter",
        "the PCA of AudioSet's postprocessing, see encoders.vggish.quantized",
    ]
    assert "ignored 94 keys: a training step counter" in str(report)
    model, again = load_inception(out, SMALL)
    assert model.config == SMALL
    for ours, theirs in ((again, params), (load_vggish(out, TINY), load_vggish(vggish, TINY))):
        assert jax.tree.structure(ours) == jax.tree.structure(theirs)
        jax.tree.map(lambda a, b: np.testing.assert_array_equal(a, b, strict=True), ours, theirs)
    assert read_meta(str(out / "vggish"))["files"] == ["vggish.pth"]
    assert WEIGHTS.identity(out) == WEIGHTS.identity(inception) == hashlib.sha256(inception.read_bytes()).hexdigest()


def test_a_directory_of_something_else_is_named_in_one_line(inception, tmp_path):
    out = tmp_path / "networks"
    convert_networks([inception], out)
    for load, message in (
        (lambda: load_vggish(out, TINY), rf"no checkpoint in {out}/vggish"),
        (lambda: load_inception(tmp_path, SMALL), r"no checkpoint in .*/inception"),
        (
            lambda: load_inception(out),
            rf"{out}/inception does not fit: .*, expected float32\[3, 3, 3, 32\]",
        ),
    ):
        with pytest.raises(ConfigError, match=message) as error:
            load()
        assert "\n" not in str(error.value)
    save_params(str(tmp_path / "inception"), WEIGHTS.tree(load_inception(out, SMALL)[1]))
    with pytest.raises(ConfigError, match="does not say of which file it is; `codi-jax convert` writes it anew"):
        WEIGHTS.identity(tmp_path)


def test_nothing_is_written_unless_all_files_fit(inception, vggish, tmp_path):
    out = tmp_path / "out"
    state = files.filled(files.inception(16, 5))
    del state["fc.bias"]
    broken = files.save(tmp_path / "broken.pth", state)
    codi = files.save(tmp_path / "codi.pth", CODI)
    aux = files.save(tmp_path / "aux.pth", {**state, "AuxLogits.fc.bias": np.zeros(5, np.float32)})
    for given, message in {
        (vggish, broken): r"broken\.pth: Inception-v3 of FID: .*missing: fc\.bias",
        (vggish, aux): r"aux\.pth: .*torchvision's Inception-v3, whose features are not those of FID",
        (codi, inception): r"codi\.pth: no feature network, as .*inception\.pth is: convert them in two calls",
        (inception, codi): r"codi\.pth: no feature network, as .*inception\.pth is: convert them in two calls",
        (codi,): r"codi\.pth: neither Inception-v3 of FID nor VGGish of torchvggish: needs --workdir=DIRECTORY",
        (inception, broken): r"broken\.pth: Inception-v3 of FID is in .*inception\.pth, too; give one of the two",
        (tmp_path / "none.pth",): r"none\.pth: there is no such file",
    }.items():
        with pytest.raises(ConfigError, match=message) as error:
            convert_networks(given, out)
        assert "\n" not in str(error.value)
    with pytest.raises(NamesError):
        convert_networks([broken], out)
    assert not out.exists()


@pytest.mark.parametrize("name", ["inception", "vggish"])
def test_no_model_takes_a_feature_network_alone_or_beside_its_own_files(name, request, tmp_path):
    file = request.getfixturevalue(name)
    codi = files.save(tmp_path / "codi.pth", CODI)
    for given in ([file], [codi, file]):
        with pytest.raises(ConfigError, match=rf"{name}\.pth: .* is no component of a CoDi model: convert it in "):
            convert(paper.codi(), given, tmp_path / "out")
    assert not (tmp_path / "out").exists()
