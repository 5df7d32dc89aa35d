"""One direction of the matrix and one joint set of outputs, from given readings."""

import numpy as np
import pytest

from codi_jax import digit_world
from codi_jax.digit_world.benchmark import joint, matrix
from codi_jax.digit_world.judges.readers import Reading
from codi_jax.metrics import frechet
from codi_jax.metrics.agreement import UNREAD


def test_direction_by_hand(monkeypatch):
    monkeypatch.setitem(digit_world.CARRIES, "depth", ("digit",))
    truth = {"digit": np.array([0, 1, 2, 3]), "colour": np.array([0, 0, 1, 1])}
    generated = Reading({"digit": np.array([0, 1, 2, 9]), "colour": np.array([0, 1, 1, UNREAD])})
    real = Reading({"digit": np.array([0, 1, 2, 3]), "colour": np.array([0, 0, 1, 0])})
    cell = matrix.direction("text", truth, generated, real)
    assert cell["n"] == 4 and not cell["free"]
    digit, colour = cell["factors"]["digit"], cell["factors"]["colour"]
    assert (digit["accuracy"], digit["ceiling"], digit["shuffled"]) == (0.75, 1.0, 0.0)
    assert digit["chance"] == pytest.approx(3 * 0.25**2)
    assert (colour["accuracy"], colour["ceiling"]) == (0.5, 0.75)
    assert colour["chance"] == pytest.approx(0.5 * 0.25 + 0.5 * 0.5)
    assert (cell["all"]["accuracy"], cell["all"]["ceiling"]) == (0.5, 0.75)
    assert digit["interval"][0] < 0.75 < digit["interval"][1]
    # A source that does not carry the colour leaves it free: only its entropy is reported.
    cell = matrix.direction("depth", truth, generated, real)
    assert list(cell["factors"]) == ["digit"]
    assert cell["all"] == cell["factors"]["digit"]
    assert 0 < cell["free"]["colour"]["entropy"] < 1


def test_coherence_by_hand():
    rng = np.random.default_rng(0)
    real = frechet.fit(rng.normal(size=(64, 3)))
    features = rng.normal(size=(4, 3))
    a, b = np.array([0, 1, 2, 3]), np.array([0, 1, 2, 2])
    together = {"text": Reading({"digit": a, "colour": a}), "image": Reading({"digit": b, "colour": a}, features + 1)}
    alone = {"text": Reading({"digit": a, "colour": a}), "image": Reading({"digit": a[::-1], "colour": a}, features)}
    cell = joint.coherence(together, alone, {"image": real})
    assert cell["n"] == 4
    assert (cell["digit"]["joint"], cell["digit"]["independent"], cell["colour"]["joint"]) == (0.75, 0.0, 1.0)
    assert cell["digit"]["chance"] == pytest.approx(0.25**2 * 2 + 0.25 * 0.5)
    detail = cell["digit"]["outputs"]
    assert cell["digit"]["entropy"] == detail["image"]["entropy"] < detail["text"]["entropy"]
    assert cell["digit"]["fidelity"] == detail["image"]["fidelity"] > detail["image"]["fidelity_independent"]
    assert "fidelity" not in detail["text"]


def test_coherence_skips_factors_of_a_single_output():
    together = {"text": Reading({"digit": np.zeros(4, int), "colour": np.zeros(4, int)})}
    together["audio"] = Reading({"digit": np.zeros(4, int)})
    cell = joint.coherence(together, together, {})
    assert set(cell) == {"n", "digit"}
    assert cell["digit"]["fidelity"] is None
