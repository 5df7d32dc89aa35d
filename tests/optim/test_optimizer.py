import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from codi_jax.config import ConfigError, from_dict
from codi_jax.optim import OptimizerConfig, learning_rate, make_optimizer


def test_warmup_then_cosine_by_hand():
    rate = learning_rate(OptimizerConfig(learning_rate=2.0, warmup=4, final_fraction=0.1), 12)
    # 4 updates of warm-up, then 8 of decay from 2 to 0.2, half way at the 8th.
    expected = {0: 0.5, 1: 1.0, 3: 2.0, 4: 2.0, 8: 2 * (0.1 + 0.9 / 2), 12: 0.2, 100: 0.2}
    expected[6] = 2 * (0.1 + 0.9 * (1 + math.cos(math.pi / 4)) / 2)
    for n, value in expected.items():
        assert float(rate(n)) == pytest.approx(value, rel=1e-6), n


def test_constant_schedule():
    rate = learning_rate(OptimizerConfig(learning_rate=3.0, warmup=3, schedule="constant"), 10)
    assert [float(rate(n)) for n in (0, 1, 2, 9)] == pytest.approx([1.0, 2.0, 3.0, 3.0])


def test_no_warmup_starts_at_the_peak():
    assert float(learning_rate(OptimizerConfig(learning_rate=1.0), 1)(0)) == 1.0


def test_clipping_by_global_norm():
    params = {"a": jnp.zeros((2, 2)), "b": jnp.zeros(1)}
    grads = {"a": jnp.full((2, 2), 3.0), "b": jnp.array([8.0])}  # norm √(4·9 + 64) = 10
    config = OptimizerConfig(name="adam", learning_rate=1.0, schedule="constant", clip=5.0, b1=0.5, b2=0.0, eps=1e3)
    tx = make_optimizer(config, 10, params)
    updates, _ = tx.update(grads, tx.init(params), params)
    # The first moment, debiased, is the clipped gradient g/2; the second its square: u = −g/2 / (|g/2| + 1000).
    assert float(updates["a"][0, 0]) == pytest.approx(-1.5 / 1001.5, rel=1e-5)
    assert float(updates["b"][0]) == pytest.approx(-4.0 / 1004.0, rel=1e-5)


def test_two_steps_of_adamw_by_hand():
    config = OptimizerConfig(learning_rate=0.1, schedule="constant", clip=0.0, weight_decay=0.01, b1=0.9, b2=0.99)
    p, m, v = 2.0, 0.0, 0.0
    params = {"w": jnp.full((1, 1), p)}
    tx = make_optimizer(config, 10, params)
    state = tx.init(params)
    for n, g in enumerate((0.5, -1.0), 1):
        m, v = 0.9 * m + 0.1 * g, 0.99 * v + 0.01 * g * g
        p -= 0.1 * (m / (1 - 0.9**n) / (math.sqrt(v / (1 - 0.99**n)) + 1e-8) + 0.01 * p)
        updates, state = tx.update({"w": jnp.full((1, 1), g)}, state, params)
        params = {"w": params["w"] + updates["w"]}
        assert float(params["w"][0, 0]) == pytest.approx(p, rel=1e-5)


@pytest.mark.parametrize("name", ["adamw", "lion"])
def test_the_first_moment_can_be_stored_in_bfloat16(name):
    """Updates are computed in float32 and differ from those of a float32 moment by its rounding, 2⁻⁹."""
    updates = {}
    for dtype in ("float32", "bfloat16"):
        config = OptimizerConfig(name=name, learning_rate=0.1, schedule="constant", clip=0.0, mu_dtype=dtype)
        params = {"w": jnp.zeros((1, 64))}
        tx = make_optimizer(config, 10, params)
        state = tx.init(params)
        for seed in range(3):
            g = jnp.sin(jnp.arange(64.0) + seed)[None]
            updates[dtype], state = tx.update({"w": g}, state, params)
        stored = sorted(str(leaf.dtype) for leaf in jax.tree.leaves(state) if leaf.shape == (1, 64))
        assert stored == sorted([dtype, *["float32"] * (name == "adamw")])
    assert updates["bfloat16"]["w"].dtype == jnp.float32
    np.testing.assert_allclose(updates["bfloat16"]["w"], updates["float32"]["w"], atol=0.1 * 2**-7)
    assert name == "lion" or (updates["bfloat16"]["w"] != updates["float32"]["w"]).any()


def test_lion_moves_by_the_sign():
    config = OptimizerConfig(name="lion", learning_rate=0.1, schedule="constant", b2=0.99)
    params = {"w": jnp.zeros((1, 3))}
    tx = make_optimizer(config, 10, params)
    updates, _ = tx.update({"w": jnp.array([[0.2, -7.0, 0.0]])}, tx.init(params), params)
    np.testing.assert_allclose(updates["w"], [[-0.1, 0.1, 0.0]], rtol=1e-6)


@pytest.mark.parametrize(
    ("field", "message"),
    [
        ({"learning_rate": 0.0}, "learning_rate: 0.0 is not positive"),
        ({"b2": 1.0}, "b2: 1.0 is not in"),
        ({"clip": -1.0}, "clip: -1.0 is negative"),
        ({"name": "adam", "weight_decay": 0.1}, "adam has no decay"),
        ({"name": "sgd"}, "expected one of 'adamw'"),
    ],
)
def test_config_is_checked(field, message):
    with pytest.raises(ConfigError, match=message):
        from_dict(OptimizerConfig, field, "optimizer")


def test_a_warmup_longer_than_the_stage_is_refused():
    with pytest.raises(ConfigError, match="20 updates of warm-up in a stage of 10 steps"):
        learning_rate(OptimizerConfig(warmup=20), 10)
