import jax
import jax.numpy as jnp
import numpy as np
import pytest

from codi_jax.config import ConfigError
from codi_jax.optim.precision import cast_in_place, precision
from codi_jax.optim.rules import merge, partition, select
from codi_jax.parallel import paths

PARAMS = {
    "unet": {"kernel": jnp.full((2, 2), 1 / 3), "norm": {"scale": jnp.full(2, 1 / 3)}},
    "tower": {"kernel": jnp.full((2, 2), 1 / 3), "frozen": jnp.full(2, 1 / 3)},
}
TRAINABLE = select(PARAMS, ("tower/kernel",))


def types(tree):
    return {path: leaf.dtype.name for path, leaf in paths.flatten(tree).items()}


def test_frozen_components_are_stored_and_trained_ones_cast_by_the_first_matching_rule():
    rules = (("unet/norm/.*", "float32"), ("unet/.*", "bfloat16"), ("tower/.*", "bfloat16"))
    cast_frozen, cast_for_compute = precision(PARAMS, TRAINABLE, rules, "rules")
    trained, frozen = partition(PARAMS, TRAINABLE)
    stored = cast_in_place(frozen, cast_frozen)
    assert types(stored) == {"unet/kernel": "bfloat16", "unet/norm/scale": "float32", "tower/frozen": "float32"}
    # A frozen leaf of a trained component keeps its precision, since it is saved with the component.
    np.testing.assert_array_equal(stored["tower"]["frozen"], PARAMS["tower"]["frozen"])
    assert types(cast_for_compute(merge(trained, stored))) == {
        "tower/kernel": "bfloat16", "tower/frozen": "bfloat16", "unet/kernel": "bfloat16", "unet/norm/scale": "float32"
    }  # fmt: skip


def test_gradients_are_float32():
    _, cast_for_compute = precision(PARAMS, TRAINABLE, (("tower/.*", "bfloat16"),), "rules")
    trained, frozen = partition(PARAMS, TRAINABLE)

    def loss(trained):
        kernel = cast_for_compute(merge(trained, frozen))["tower"]["kernel"]
        return (kernel * jnp.arange(4.0, dtype=kernel.dtype).reshape(2, 2)).sum().astype(jnp.float32)

    (gradient,) = jax.tree.leaves(jax.grad(loss)(trained))
    assert gradient.dtype == jnp.float32
    np.testing.assert_array_equal(gradient, np.arange(4.0).reshape(2, 2))


@pytest.mark.parametrize(
    ("rules", "message"),
    [
        ((("unet/.*", "int8"),), "rules: 'int8' is none of float32, bfloat16, float16"),
        ((("tower/nothing", "bfloat16"),), "'tower/nothing' matches no parameter"),
    ],
)
def test_invalid_rules_are_refused(rules, message):
    with pytest.raises(ConfigError, match=message):
        precision(PARAMS, TRAINABLE, rules, "rules")
