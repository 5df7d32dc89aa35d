"""CoDi: connectivity, mixing of prompts, and the parameters of components."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.interpreters import partial_eval

from codi_jax.codi import CoDi
from codi_jax.config import ConfigError
from codi_jax.diffusion.guidance import ClassifierFreeGuidance
from codi_jax.parallel import paths
from codi_jax.sampling.config import GenerateConfig
from codi_jax.sampling.generator import Generator
from codi_jax.types import MASKED, Tokens
from tests import toy

KEY = jax.random.key(0)
PAIR = toy.PAIR


# Connectivity


def test_every_output_attends_to_all_others():
    np.testing.assert_array_equal(toy.codi().connectivity(PAIR), [[0, 1], [1, 0]])


def test_in_the_release_every_output_attends_to_itself():
    np.testing.assert_array_equal(toy.codi(compat="release").connectivity(PAIR), [[1, 0], [0, 1]])


@pytest.mark.parametrize("compat", ["true", "release"])
def test_an_output_alone_attends_to_nothing(compat):
    for outputs in ((), ("text",), ("image",)):
        assert not toy.codi(compat=compat).connectivity(outputs).any()


def test_rows_of_present_outputs_sum_to_one(monkeypatch):
    codi = toy.codi()
    monkeypatch.setattr(codi, "modalities", dict.fromkeys("abcd"))
    got = codi.connectivity(("a", "c", "d"))
    np.testing.assert_array_equal(got, np.array([[0, 0, 1, 1], [0, 0, 0, 0], [1, 0, 0, 1], [1, 0, 1, 0]]) / 2)


def test_a_modality_may_count_more_for_the_others(monkeypatch):
    codi = toy.codi()
    monkeypatch.setattr(codi, "modalities", dict.fromkeys("abcd"))
    got = codi.connectivity(("a", "c", "d"), {"a": 3.0, "b": 9.0})
    np.testing.assert_array_equal(
        got, np.array([[0, 0, 0.5, 0.5], [0, 0, 0, 0], [0.75, 0, 0, 0.25], [0.75, 0, 0.25, 0]])
    )
    np.testing.assert_array_equal(codi.connectivity(("a", "b"), {"a": 3.0})[:2, :2], [[0, 1], [1, 0]])


def environment(codi, row, **tokens):
    values = {name: jnp.full((3, k, 2), x, jnp.float32) for name, (k, x) in tokens.items()}
    return codi.environment(values, jnp.asarray(row, jnp.float32))


def test_the_pooled_environment_is_a_weighted_sum():
    got, gate = environment(toy.codi(), (0.25, 0.75), text=(1, 4.0), image=(1, 8.0))
    np.testing.assert_array_equal(got.values, np.full((3, 1, 2), 7.0))
    np.testing.assert_array_equal(got.bias, 0)
    np.testing.assert_array_equal(gate, np.ones(3))
    got, gate = environment(toy.codi(), (0, 0), text=(1, 4.0), image=(1, 8.0))
    assert not got.values.any() and not gate.any()


def test_tokens_count_by_what_they_know():
    # Weights 1/4 · 4² and 3/4 · 8² of the tokens 4 and 8: 4 and 48, divided by their sum.
    values = {"text": jnp.full((3, 1, 2), 4.0), "image": jnp.full((3, 1, 2), 8.0)}
    got, gate = toy.codi().environment(values, jnp.array([0.25, 0.75]), by_norm=True)
    np.testing.assert_allclose(got.values, np.full((3, 1, 2), (4 * 4 + 48 * 8) / 52), rtol=1e-6)
    np.testing.assert_array_equal(gate, np.ones(3))
    # A token that knows nothing does not dilute the other; of a single partner nothing changes; none gives no gate.
    got, _ = toy.codi().environment({**values, "text": jnp.zeros((3, 1, 2))}, jnp.array([0.5, 0.5]), by_norm=True)
    np.testing.assert_allclose(got.values, values["image"], rtol=1e-6)
    got, _ = toy.codi().environment(values, jnp.array([1.0, 0.0]), by_norm=True)
    np.testing.assert_allclose(got.values, values["text"], rtol=1e-6)
    got, gate = toy.codi().environment(values, jnp.zeros(2), by_norm=True)
    assert not got.values.any() and not gate.any()


def test_maps_are_concatenated_with_log_weights():
    got, gate = environment(toy.codi(environment_tokens="map"), (0.25, 0), text=(1, 4.0), image=(5, 8.0))
    assert got.values.shape == (3, 6, 2)
    np.testing.assert_allclose(got.bias, np.tile([np.log(0.25)] + [MASKED] * 5, (3, 1)), rtol=1e-6)
    np.testing.assert_array_equal(gate, np.ones(3))


def test_an_environment_is_mixed_with_weights_of_each_sample():
    values, weights = (jnp.full((2, 1, 3), 4.0), jnp.full((2, 1, 3), 8.0)), jnp.array([[0.25, 1.0], [0.75, 0.0]])
    got = toy.codi().mix_environment(list(zip(toy.PAIR, values, strict=True)), weights)
    np.testing.assert_array_equal(got.values, np.broadcast_to(np.array([7.0, 4.0])[:, None, None], (2, 1, 3)))
    maps = toy.codi(environment_tokens="map").mix_environment(
        [("text", values[0]), ("image", jnp.ones((2, 4, 3)))], weights
    )
    assert maps.values.shape == (2, 5, 3)
    want = [[np.log(0.25)] + [np.log(0.75)] * 4, [0.0] + [MASKED] * 4]
    np.testing.assert_allclose(maps.bias, want, rtol=1e-6)


# Information between outputs


@functools.lru_cache
def generator(compat):
    """Two deterministic steps; all parameters are nonzero, those of X's output layers included."""
    codi = toy.codi(compat=compat)
    return Generator(
        codi, GenerateConfig({name: ClassifierFreeGuidance() for name in PAIR}, steps=2, loop="host")
    ), toy.variables(codi)


@pytest.mark.parametrize("compat", ["true", "release"])
def test_outputs_depend_on_each_other_unless_compat_is_release(compat):
    model, variables = generator(compat)
    prompt = {"text": jax.random.normal(KEY, (2, toy.D))}
    noise = {
        name: jax.random.normal(jax.random.key(i), (2, *model.codi[name].latent_shape)) for i, name in enumerate(PAIR)
    }

    def run(noise):
        return jax.device_get(model.latents(variables, PAIR, prompt, 2, KEY, noise=noise))

    base = run(noise)
    assert toy.same(base, run(noise))
    for changed, other in (PAIR, PAIR[::-1]):
        got = run({**noise, changed: noise[changed] + 1})
        assert not np.array_equal(got[changed], base[changed])
        if compat == "release":
            assert got[other].tobytes() == base[other].tobytes()  # exactly
        else:
            assert np.abs(got[other] - base[other]).max() > 1e-4


# Prompts


def test_prompts_of_one_token_are_a_convex_combination():
    a, b = jnp.eye(2, 4), jnp.eye(2, 4, 2)
    tokens = toy.codi().context({"text": a, "image": b}, {"text": 3.0})  # the weight of image is 1
    np.testing.assert_allclose(tokens.values[:, 0], 0.75 * a + 0.25 * b)
    np.testing.assert_array_equal(tokens.bias, np.zeros((2, 1)))
    equal = toy.codi().context({"text": a, "image": b})
    np.testing.assert_allclose(equal.values[:, 0], (a + b) / 2)
    assert float(jnp.linalg.norm(equal.values[0, 0])) < 0.8


def test_prompts_of_many_tokens_are_concatenated_with_log_weights():
    a, b = jnp.ones((2, 4)), jnp.full((2, 3, 4), 2.0)
    tokens = toy.codi().context({"text": a, "image": b}, {"text": 3.0, "image": 1.0})
    np.testing.assert_array_equal(tokens.values[0, :, 0], [1, 2, 2, 2])
    np.testing.assert_allclose(tokens.bias, np.log([[0.75, 0.25, 0.25, 0.25]] * 2), rtol=1e-6)
    tokens = toy.codi().context({"text": a, "image": b}, {"image": 0.0})
    np.testing.assert_array_equal(tokens.bias, [[0] + [MASKED] * 3] * 2)


@pytest.mark.parametrize("tokens", [1, 3])
def test_mix_weights_per_sample(tokens):
    shape = (4,) if tokens == 1 else (tokens, 4)
    a, b = (jax.random.normal(jax.random.key(i), (3, *shape)) for i in (0, 1))
    rows = [(3.0, 1.0), (0.0, 2.0), (1.0, 0.0)]
    weights = {name: np.array(w, np.float32) for name, w in zip(PAIR, zip(*rows, strict=True), strict=True)}
    got = toy.codi().context({"text": a, "image": b}, weights)
    for i, (text, image) in enumerate(rows):  # equal to a batch of one
        want = toy.codi().context({"text": a[i : i + 1], "image": b[i : i + 1]}, {"text": text, "image": image})
        np.testing.assert_array_equal(got.values[i], want.values[0])
        np.testing.assert_array_equal(got.bias[i], want.bias[0])


def test_a_scalar_mix_weight_applies_to_all_samples():
    a, b = (jax.random.normal(jax.random.key(i), (3, 4)) for i in (0, 1))
    number = toy.codi().context({"text": a, "image": b}, {"text": 3.0, "image": 0.5})
    each = toy.codi().context({"text": a, "image": b}, {"text": np.full(3, 3.0), "image": 0.5})
    np.testing.assert_array_equal(number.values, each.values)


def test_the_error_names_the_invalid_weights_of_a_sample():
    a = jnp.ones((3, 4))
    weights = {"text": np.array([1.0, 0.0, 1.0]), "image": np.array([1.0, 0.0, 1.0])}
    with pytest.raises(ConfigError, match=r"positive sum, got text=0, image=0$"):
        toy.codi().context({"text": a, "image": a}, weights)
    with pytest.raises(ConfigError, match=r"got text=-2, image=1$"):
        toy.codi().context({"text": a, "image": a}, {"text": np.array([1.0, 1.0, -2.0])})


@pytest.mark.parametrize("weights", [{"text": -1.0}, {"text": 0.0}, {"text": np.nan}, {"text": np.inf}])
def test_invalid_mix_weights_raise(weights):
    with pytest.raises(ConfigError, match="mix weights must be"):
        toy.codi().context({"text": jnp.ones((1, 4))}, weights)


def test_null_prompts_are_zero_or_embeddings_of_empty_media():
    codi = toy.codi()
    for values in codi.null_prompts({}, PAIR, 3).values():
        np.testing.assert_array_equal(values, np.zeros((3, toy.D)))
    codi, variables = toy.codi(null="empty"), toy.variables(toy.codi())
    got = toy.quick(lambda v: codi.null_prompts(v, PAIR, 2))(variables)
    want = toy.quick(lambda v: {name: codi[name].prompt(v, codi[name].empty(2)) for name in PAIR})(variables)
    for name in PAIR:
        np.testing.assert_allclose(got[name], want[name], rtol=1e-6)
        assert np.any(got[name])


# Names


def test_order_sorts_names_by_the_registry():
    assert toy.codi().order(["image", "text"]) == PAIR
    assert toy.codi().order([]) == ()
    tree = toy.model()
    tree["modalities"] = dict(reversed(tree["modalities"].items()))
    assert tuple(CoDi.from_config(tree).modalities) == PAIR


def test_invalid_names_raise():
    with pytest.raises(ConfigError, match=r"^modality 'text' is named twice$"):
        toy.codi().order(["text", "text"])
    with pytest.raises(ConfigError, match=r"^unknown modality 'smell'; this model has text, image$"):
        toy.codi().order(["smell"])
    with pytest.raises(ConfigError, match=r"config\.model\.modalities\.smell: unknown modality; known: text, image"):
        CoDi.from_config(toy.model(modalities={"smell": {}}))
    tree = toy.model()
    tree["modalities"]["image"]["denoiser"]["head"] = 3
    with pytest.raises(ConfigError, match=r"^config\.model\.modalities\.image\.denoiser\.head: unknown key"):
        CoDi.from_config(tree)


# Parameters


def read_leaves(function, params, *args):
    """Paths of the parameters that the result of a function depends on, by dead code elimination."""
    jaxpr = jax.make_jaxpr(function)(params, *args)
    _, used = partial_eval.dce_jaxpr(jaxpr.jaxpr, [True] * len(jaxpr.jaxpr.outvars))
    return {path for path, yes in zip(paths.flatten(params), used, strict=False) if yes}


@pytest.mark.parametrize("name", PAIR)
def test_a_modality_has_exactly_the_parameters_that_it_uses(name):
    codi = toy.codi()
    modality, constants = codi[name], codi.default_constants()
    z, t = jax.ShapeDtypeStruct((1, *modality.latent_shape), jnp.float32), jax.ShapeDtypeStruct((1,), jnp.int32)
    tokens = jax.eval_shape(Tokens.of, jax.ShapeDtypeStruct((1, 2, toy.D), jnp.float32))
    example = jax.eval_shape(lambda: modality.example(1))

    def everything(params, z, t, tokens, media):
        variables = {"params": params, "constants": constants}
        return (
            modality.denoise(variables, z, t, tokens, tokens, jnp.ones((1,))),
            modality.environment_tokens(variables, z, t),
            modality.encode(variables, media),
            modality.prompt(variables, media),
            modality.reconstruction(params[modality.components["codec"]], media, z, KEY)[0],
        )

    params = {c: tree for c, tree in toy.shapes(codi).items() if c in modality.components.values()}
    assert set(params) == set(modality.components.values())
    read = read_leaves(everything, params, z, t, tokens, example)
    assert read == set(paths.flatten(params))


def test_cross_modal_attention_is_used_only_with_an_environment():
    codi = toy.codi()
    z, t = jnp.zeros((1, 16)), jnp.zeros((1,), jnp.int32)
    context = Tokens.of(jnp.zeros((1, 1, toy.D)))
    params = {c: tree for c, tree in toy.shapes(codi).items() if c in ("text_unet", "text_cross")}

    def alone(params):
        return codi["text"].denoise({"params": params}, z, t, context)

    # Attention to one token has no queries and keys.
    unread = {f"cross/{name}/kernel" for name in ("query", "key")} | {
        f"norm_cross/{name}" for name in ("scale", "bias")
    }
    own = {p for p in paths.flatten(params) if p.startswith("text_unet/")}
    assert read_leaves(alone, params) == {p for p in own if not p.endswith(tuple(unread))}
    with pytest.raises(ConfigError, match=r"the cross of text \(text_cross\) is missing"):
        jax.eval_shape(lambda p: codi["text"].denoise({"params": p}, z, t, context, context), {"text_unet": {}})


def test_at_initialisation_cross_modal_attention_changes_nothing():
    codi = toy.codi()
    params = toy.quick(lambda key: codi.init(key, ("text_cross",)))(KEY)
    params["text_unet"] = toy.params(codi)["text_unet"]
    z, t = jax.random.normal(KEY, (2, 16)), jnp.array([3, 900])
    context, other = (Tokens.of(jax.random.normal(jax.random.key(i), (2, 1, toy.D))) for i in (1, 2))

    def both(params):
        variables = {"params": params}
        return (
            codi["text"].denoise(variables, z, t, context),
            codi["text"].denoise(variables, z, t, context, other, jnp.ones((2,))),
        )

    alone, joint = toy.quick(both)(params)
    assert np.any(alone)
    np.testing.assert_allclose(joint, alone, rtol=1e-5, atol=1e-6)


def test_parameters_do_not_depend_on_the_other_modalities():
    whole = toy.codi()
    tree = toy.model()
    del tree["modalities"]["text"]
    sole = CoDi.from_config(tree)
    assert set(toy.shapes(sole)) < set(toy.shapes(whole))
    names = ("clip_vision", "image_environment")
    a, b = (toy.quick(lambda key, c=c: c.init(key, names))(KEY) for c in (whole, sole))
    assert set(a) == set(names) and toy.same(a, b)
    leaves = paths.flatten(a)
    kernels = [x for p, x in leaves.items() if p.endswith("kernel") and np.any(x)]
    for x in kernels:  # no two components are equal
        assert sum(x.shape == y.shape and np.array_equal(x, y) for y in kernels) == 1


def test_prompt_encoders_share_the_initialisation_of_equal_paths_and_shapes():
    params = toy.quick(lambda key: toy.codi().init(key, ("clip_text", "clip_vision")))(KEY)
    text, vision = (paths.flatten(params[name]) for name in ("clip_text", "clip_vision"))
    shared = [p for p in text if p in vision and text[p].shape == vision[p].shape]
    assert "projection/kernel" in shared and any(p.startswith("layer_0/") for p in shared)
    assert all(np.array_equal(text[p], vision[p]) for p in shared)


def test_four_modalities_have_their_components_and_share_a_codec():
    codi = toy.codi(*toy.EVERYTHING)
    assert tuple(codi.modalities) == toy.EVERYTHING
    shapes = toy.shapes(codi)
    named = {component for modality in codi.modalities.values() for component in modality.components.values()}
    assert set(shapes) == named and len(named) == 4 * 5 - 1
    assert codi["image"].components["codec"] == codi["video"].components["codec"] == "vision_codec"
    for names in (PAIR, ("text", "audio")):  # independent of the other modalities
        fewer = toy.shapes(toy.codi(*names))
        assert fewer == {name: shapes[name] for name in fewer}
    np.testing.assert_allclose(codi.connectivity(toy.EVERYTHING), (1 - np.eye(4)) / 3, rtol=1e-6)


def test_component_names_has_one_modality_and_role_each():
    owners = toy.codi().component_names()
    assert set(owners) == set(toy.shapes(toy.codi()))
    assert owners["vision_codec"] == ("image", "codec") and owners["text_cross"] == ("text", "cross")
    assert set(toy.codi().default_constants()) == {"vision_codec", "clip_vision", "text_codec", "clip_text"}
