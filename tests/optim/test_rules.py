import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from codi_jax.config import ConfigError
from codi_jax.optim import OptimizerConfig, TrainState, make_optimizer, merge, partition, rules, select, summary
from codi_jax.optim.optimizer import decayed, multipliers
from codi_jax.parallel import paths

PARAMS = {
    "unet": {
        "down": {"conv": {"kernel": jnp.ones((3, 4)), "bias": jnp.ones(4)}, "norm": {"scale": jnp.ones(4)}},
        "temporal": {"conv": {"kernel": jnp.ones((4, 4)), "bias": jnp.ones(4)}},
    },
    "codec": {"kernel": jnp.ones((2, 2))},
}


def trained(*patterns):
    return [path for path, flag in paths.flatten(select(PARAMS, patterns)).items() if flag]


def test_first_pattern_that_matches_decides():
    assert trained("unet/temporal/.*") == ["unet/temporal/conv/bias", "unet/temporal/conv/kernel"]
    assert trained("!.*/bias", "unet/.*") == [
        "unet/down/conv/kernel",
        "unet/down/norm/scale",
        "unet/temporal/conv/kernel",
    ]
    assert trained("codec/kernel") == ["codec/kernel"]


@pytest.mark.parametrize(
    ("patterns", "message"),
    [
        (("unet/temporl/.*",), "'unet/temporl/.*' matches no parameter; components: codec, unet"),
        (("unet",), "matches no parameter"),  # a pattern has to match the whole path
        (("unet/.*", "!unet/down/.*"), "'unet/down/.*' has no effect"),
        (("unet/(",), "is not a regular expression"),
        (("!unet/.*",), "no parameter is trained"),
        ("unet/.*", "expected a sequence"),
    ],
)
def test_invalid_patterns_are_refused(patterns, message):
    with pytest.raises(ConfigError, match=message):
        select(PARAMS, patterns, "stage.trainable")


def test_partition_and_merge_are_inverse():
    trained_params, frozen = partition(PARAMS, select(PARAMS, ("unet/temporal/.*",)))
    assert list(trained_params) == ["unet"] and list(trained_params["unet"]) == ["temporal"]
    assert sorted(frozen) == ["codec", "unet"] and list(frozen["unet"]) == ["down"]
    whole = merge(trained_params, frozen)
    assert jax.tree.structure(whole) == jax.tree.structure(PARAMS)
    with pytest.raises(ValueError, match="codec/kernel is in two parts"):
        merge(frozen, {"codec": PARAMS["codec"]})


def test_frozen_leaves_have_neither_gradient_nor_optimizer_state():
    trained_params, frozen = partition(PARAMS, select(PARAMS, ("unet/temporal/.*",)))

    def loss(trained_params):
        return sum(jnp.sum(jnp.square(leaf)) for leaf in jax.tree.leaves(merge(trained_params, frozen)))

    grads = jax.grad(loss)(trained_params)
    assert list(paths.flatten(grads)) == ["unet/temporal/conv/bias", "unet/temporal/conv/kernel"]
    tx = make_optimizer(OptimizerConfig(weight_decay=0.1), 10, trained_params)
    state = TrainState.create(trained_params, tx)
    sizes = [leaf.size for leaf in jax.tree.leaves((state.opt_state, state.ema)) if leaf.ndim]
    assert sum(sizes) == 3 * (16 + 4)  # two moments and an average of the trained leaves, and nothing else


def test_learning_rate_and_decay_rules():
    config = OptimizerConfig(weight_decay=0.1, lr_multipliers=(("unet/temporal/.*", 0.5),), no_decay=("codec/.*",))
    assert {p for p, f in multipliers(config, PARAMS).items() if f == 0.5} == {
        "unet/temporal/conv/bias",
        "unet/temporal/conv/kernel",
    }
    assert {p for p, d in decayed(config, PARAMS).items() if d} == {
        "unet/down/conv/kernel",
        "unet/temporal/conv/kernel",
    }
    with pytest.raises(ConfigError, match=r"lr_multipliers: 'vae/\.\*' matches no parameter"):
        make_optimizer(OptimizerConfig(lr_multipliers=(("vae/.*", 2.0),)), 10, PARAMS)
    with pytest.raises(ConfigError, match="not a positive number"):
        make_optimizer(OptimizerConfig(lr_multipliers=(("codec/.*", "fast"),)), 10, PARAMS)


def test_multiplier_scales_the_update_and_biases_do_not_decay():
    config = OptimizerConfig(
        learning_rate=0.1, schedule="constant", weight_decay=0.5, clip=0.0, lr_multipliers=(("unet/temporal/.*", 0.5),)
    )
    tx = make_optimizer(config, 10, PARAMS)
    zero = jax.tree.map(jnp.zeros_like, PARAMS)  # without a gradient only decay changes parameters
    updates, _ = tx.update(zero, tx.init(PARAMS), PARAMS)
    got = {path: float(leaf.ravel()[0]) for path, leaf in paths.flatten(updates).items()}
    assert got == {
        "codec/kernel": pytest.approx(-0.05),
        "unet/down/conv/bias": 0.0,
        "unet/down/conv/kernel": pytest.approx(-0.05),
        "unet/down/norm/scale": 0.0,
        "unet/temporal/conv/bias": 0.0,
        "unet/temporal/conv/kernel": pytest.approx(-0.025),
    }
    assert isinstance(tx, optax.GradientTransformation)


def test_summary_counts_every_parameter_once():
    config = OptimizerConfig(weight_decay=0.1, lr_multipliers=(("unet/.*", 0.5),))
    trainable = select(PARAMS, ("unet/.*",))
    trained_params, _ = partition(PARAMS, trainable)
    text = summary(PARAMS, trainable, multipliers(config, trained_params), decayed(config, trained_params))
    rows = [line.split() for line in text.splitlines()]
    assert ["codec", "1", "4", "frozen"] in rows
    assert ["unet/down", "1", "12", "trained", "0.5", "yes"] in rows
    assert ["unet/down", "2", "8", "trained", "0.5", "no"] in rows
    assert ["total", "5", "40", "trained"] in rows and ["total", "1", "4", "frozen"] in rows
    assert np.sum([leaf.size for leaf in jax.tree.leaves(PARAMS)]) == 44


def test_assign_keeps_the_default_where_nothing_matches():
    assert rules.assign(["a/b", "a/c"], [("a/b", 2)], 1, "x") == {"a/b": 2, "a/c": 1}
