"""Codec round trips against direct calls of the codec, and their accuracy by hand."""

import jax
import numpy as np

from codi_jax.data.source import make_source
from codi_jax.digit_world import CARRIES
from codi_jax.digit_world.benchmark.roundtrip import accuracy, reconstruct
from codi_jax.digit_world.benchmark.samples import take
from codi_jax.digit_world.judges.readers import Reading
from codi_jax.metrics.agreement import UNREAD
from codi_jax.sampling.config import GenerateConfig
from codi_jax.sampling.generator import Generator
from tests import toy

N = 3


def test_reconstruct_encodes_and_decodes():
    codi = toy.codi()
    variables = toy.variables(codi)
    for constants in variables["constants"].values():  # make the normalisation of latents matter
        constants.update({k: v + 0.5 for k, v in constants.items() if k in ("shift", "scale")})
    samples = take(codi, make_source({**toy.recipe()["sources"]["test_seen"]}), range(N))
    decoded = reconstruct(Generator(codi, GenerateConfig({})), variables, samples.values)
    assert list(decoded) == list(samples.values) and all(len(values) == N for values in decoded.values())
    for name, modality in codi.modalities.items():
        params = modality.component(variables, "codec")
        mean, _ = toy.quick(modality.encode_moments)(params, modality.preprocess(samples.values[name]))
        for i, value in enumerate(modality.postprocess(jax.device_get(toy.quick(modality.decode)(params, mean)))):
            if isinstance(value, str):
                assert decoded[name][i] == value
            else:
                assert decoded[name][i].dtype == value.dtype and decoded[name][i].shape == value.shape
                np.testing.assert_allclose(decoded[name][i].astype(float), value.astype(float), atol=1)


def test_accuracy_by_hand():
    truth = {factor: np.array([0, 1, 0, 1]) for factor in CARRIES["text"]}
    right = Reading(dict(truth))
    lost = Reading({**truth, "digit": np.array([UNREAD, 1, 1, UNREAD])})
    cell = accuracy(truth, {"text": lost}, {"text": right}, {})["text"]
    assert cell["n"] == 4 and set(cell["factors"]) == set(CARRIES["text"]) and cell["free"] == {}
    assert cell["factors"]["digit"]["accuracy"] == 0.25 and cell["factors"]["digit"]["ceiling"] == 1
    assert all(row["accuracy"] == 1 for factor, row in cell["factors"].items() if factor != "digit")
