"""Inception-v3, FID, KID, precision and recall, and the Inception score against torch-fidelity and pytorch-fid.

torch-fidelity imports torchvision for data sets and other networks; where it is absent an empty stand-in serves the
import. pytorch-fid builds its network from torchvision's and is skipped without.
"""
# ruff: noqa: E402 (what needs torch is imported once it is known to be there)

import importlib
import sys
import types

import jax
import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("scipy")

from codi_jax.encoders.inception import InceptionV3, preprocess
from codi_jax.interop.inception import load_inception
from codi_jax.metrics.base import compute
from codi_jax.metrics.fid import fid
from codi_jax.metrics.frechet import fit
from codi_jax.metrics.inception_score import InceptionScore, inception_score
from codi_jax.metrics.kid import KernelDistance, mmd2, mmd2_of_subsets
from codi_jax.metrics.precision_recall import PrecisionRecall
from tests.parity.oracles.oracle import check, shaken

RNG = np.random.default_rng(0)
MIXING = RNG.gamma(0.3, size=(8, 40))
GENERATED, REAL = (RNG.gamma(s, size=(n, 8)) @ MIXING for s, n in ((0.7, 220), (0.5, 180)))  # correlated, of rank 8


class _Absent(types.ModuleType):
    """A module of empty classes."""

    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)
        return type(name, (), {})


@pytest.fixture(scope="module")
def fidelity():
    """Name of a module of torch-fidelity -> the module."""
    pytest.importorskip("tqdm")
    if importlib.util.find_spec("torch_fidelity") is None:
        pytest.skip("no torch-fidelity")
    names = ("torchvision", "torchvision.datasets", "torchvision.transforms", "torchvision.transforms.functional")
    stand_ins = {} if importlib.util.find_spec("torchvision") else {name: _Absent(name) for name in names}
    with pytest.MonkeyPatch.context() as patch:
        for name, module in stand_ins.items():
            module.__path__ = []
            patch.setitem(sys.modules, name, module)
            if "." in name:
                parent, child = name.rsplit(".", 1)
                setattr(stand_ins[parent], child, module)
        importlib.import_module("torch_fidelity")
        return lambda name: importlib.import_module(f"torch_fidelity.{name}")


@pytest.fixture(scope="module")
def network(fidelity, tmp_path_factory):
    """torch-fidelity's network with random weights, and their file."""
    module = fidelity("feature_extractor_inceptionv3")
    path = tmp_path_factory.mktemp("weights") / "inception.pth"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "load_state_dict_from_url", lambda *args, **kwargs: {})
        patch.setattr(module.FeatureExtractorInceptionV3, "load_state_dict", lambda self, state: None)
        oracle = module.FeatureExtractorInceptionV3("inception", ["2048", "logits_unbiased", "logits"])
    shaken(oracle)
    torch.save(oracle.state_dict(), path)
    return oracle, path


def apply(model, params, x, **options):
    with jax.default_matmul_precision("highest"):
        return jax.jit(lambda p, x: model.apply({"params": p}, x, **options))(params, x)


def photographs(side):
    """Smooth images with all values from 0 to 255."""
    y, x = np.mgrid[: side[0], : side[1]] / max(side)
    waves = [np.sin(6 * (a * x + b * y) + c) for a, b, c in RNG.normal(size=(6, 3)) * 2]
    return np.uint8(np.round(127.5 + 127.5 * np.stack(waves, -1))).reshape(*side, 2, 3).transpose(2, 0, 1, 3)


@pytest.mark.parametrize("side", [(64, 48), (299, 299), (320, 401)])
def test_preprocessing(fidelity, side):
    images = photographs(side)
    theirs = torch.from_numpy(images).movedim(-1, 1).float()
    resized = fidelity("interpolate_compat_tensorflow").interpolate_bilinear_2d_like_tensorflow1x(
        theirs, size=(299, 299), align_corners=False
    )
    check(preprocess(images), ((resized - 128) / 128).movedim(1, -1), 1e-6)
    resized = torch.nn.functional.interpolate(theirs / 255, size=(299, 299), mode="bilinear", align_corners=False)
    check(preprocess(images, "pytorch-fid"), (2 * resized - 1).movedim(1, -1), 2e-6)


def test_the_network_from_its_file(network):
    oracle, path = network
    images = photographs((64, 48))
    with torch.no_grad():
        pool, unbiased, logits = oracle(torch.from_numpy(images).movedim(-1, 1))
    model, params = load_inception(path)
    assert isinstance(model, InceptionV3)
    ours = apply(model, params, preprocess(images))
    check(ours.pool, pool, 1e-4)
    check(ours.logits, unbiased, 1e-4)
    check(apply(model, params, preprocess(images), bias=True).logits, logits, 1e-4)


def test_the_network_of_pytorch_fid(network, monkeypatch):
    pytest.importorskip("torchvision")
    module = pytest.importorskip("pytorch_fid.inception")
    weights = torch.load(network[1], weights_only=True)
    monkeypatch.setattr(module, "load_state_dict_from_url", lambda *args, **kwargs: weights)
    oracle = module.InceptionV3().eval()
    images = photographs((64, 48))
    with torch.no_grad():
        (pool,) = oracle(torch.from_numpy(images).movedim(-1, 1).float() / 255)
    model, params = load_inception(network[1])
    check(apply(model, params, preprocess(images, "pytorch-fid")).pool, pool[..., 0, 0], 1e-4)


def test_fid(fidelity):
    module = fidelity("metric_fid")
    statistics = [module.fid_features_to_statistics(torch.from_numpy(x)) for x in (GENERATED, REAL)]
    want = module.fid_statistics_to_metric(*statistics, verbose=False)["frechet_inception_distance"]
    assert compute(fid(fit(REAL)), [GENERATED])["fid"] == pytest.approx(want, rel=1e-6)


def test_kid(fidelity):
    module = fidelity("metric_kid")
    x, y = torch.from_numpy(GENERATED), torch.from_numpy(REAL)
    want = module.kernel_mmd(GENERATED[:180], REAL)  # theirs needs equal numbers
    assert mmd2(GENERATED[:180], REAL, block=50) == pytest.approx(want, rel=1e-6)
    options = {"kid_subsets": 7, "kid_subset_size": 60, "rng_seed": 3, "verbose": False}
    want = module.kid_features_to_metric(x, y, **options)
    rng = np.random.RandomState(3)  # theirs
    subsets = [tuple(rng.choice(n, 60, replace=False) for n in (220, 180)) for _ in range(7)]
    ours = mmd2_of_subsets(GENERATED, REAL, subsets)
    assert ours.mean() == pytest.approx(want["kernel_inception_distance_mean"], rel=1e-6)
    assert ours.std() == pytest.approx(want["kernel_inception_distance_std"], rel=1e-6)
    exact = compute(KernelDistance(REAL[:60], subsets=0), [GENERATED[:60]])["kid"]
    want = module.kernel_mmd(np.float32(GENERATED[:60]).astype(np.float64), REAL[:60])  # the state holds float32
    assert exact == pytest.approx(want, rel=1e-6)


@pytest.mark.parametrize("k", [1, 3, 5])
def test_precision_and_recall(fidelity, k):
    module = fidelity("metric_prc")
    x, y = torch.from_numpy(np.float32(GENERATED)).double(), torch.from_numpy(REAL)
    for calculate in (module.calculate_precision_recall_part, module.calculate_precision_recall_full):
        precision, recall = calculate(x, y, k, 64)
        assert 0 < recall < 1 and 0 < precision < 1
        ours = compute(PrecisionRecall(REAL, k), [GENERATED])
        assert ours["precision"] == pytest.approx(precision, rel=1e-6)
        assert ours["recall"] == pytest.approx(recall, rel=1e-6)


@pytest.mark.parametrize("splits", [1, 10])
def test_inception_score(fidelity, splits):
    logits = RNG.normal(size=(123, 1008)) * 3
    want = fidelity("metric_isc").isc_features_to_metric(torch.from_numpy(logits), splits, shuffle=False)
    ours = inception_score(logits, splits)
    assert ours["inception_score"] == pytest.approx(want["inception_score_mean"], rel=1e-6)
    assert ours["inception_score_std"] == pytest.approx(want["inception_score_std"], rel=1e-6, abs=1e-12)
    if splits == 1:
        assert compute(InceptionScore(), [logits[:50], logits[50:]])["inception_score"] == pytest.approx(
            want["inception_score_mean"], rel=1e-6
        )
