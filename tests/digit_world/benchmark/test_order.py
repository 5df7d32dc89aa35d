"""Metrics read from a sorted file are put in the order of `evaluate`."""

import json

from codi_jax.digit_world import FACTORS
from codi_jax.digit_world.benchmark.combinations import subsets
from codi_jax.digit_world.benchmark.order import in_order
from codi_jax.modalities import MODALITIES


def test_in_order_restores_the_order_of_evaluate():
    names = list(MODALITIES)
    sets = ["+".join(s) for s in subsets(names)]
    metrics = {
        "n": 8,
        "matrix": {f"{a}->{b}": {"factors": dict.fromkeys(FACTORS, 0.5)} for a in names for b in names},
        "combinations": {f"{a}->{b}": {"digit": dict.fromkeys(b.split("+"), 0.5)} for a in sets for b in sets},
        "mix": {f"{a}|{b}->{b}": [0.0, {b: 1, "n": 2}] for a in names for b in names if a != b},
        "joint": dict.fromkeys(sets[len(names) :], 0.5),
    }
    before = json.dumps(metrics["matrix"]), json.dumps(metrics["combinations"]), json.dumps(metrics["joint"])
    after = in_order(json.loads(json.dumps(metrics, sort_keys=True)))
    assert after == metrics
    assert (json.dumps(after["matrix"]), json.dumps(after["combinations"]), json.dumps(after["joint"])) == before
    assert list(after["mix"]) == list(metrics["mix"])


def test_other_keys_keep_their_order_and_come_first():
    assert list(in_order({"voice": 0, "z": 1, "digit": 2, "depth->text": 3, "text": 4, "a": 5})) == [
        *("z", "depth->text", "a"),
        *("text", "digit", "voice"),
    ]
