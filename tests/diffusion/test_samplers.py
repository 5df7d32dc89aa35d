"""Samplers on distributions whose marginals are known in closed form.

For data N(m, C) the marginal at timestep t is N(α m, α² C + σ² I), and the optimal network is

    x̂0(z, t) = m + K (z - α m),    K = α C (α² C + σ² I)^-1.

It is affine in z, so that a sampler is an affine map of its noise. A batch of basis vectors determines that map
exactly, without statistics over samples: any error of mean or covariance is the sampler's.
"""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from codi_jax.config import ConfigError
from codi_jax.diffusion import process, schedules
from codi_jax.diffusion.samplers import SAMPLERS, adds_noise, delayed, network_calls, sample, timesteps

SCHEDULE = schedules.scaled_linear()
MEAN = np.array([0.7, -1.2, 0.4])
RECTIFIED = schedules.rectified_flow()
EVERY = [(name, 0.0) for name in SAMPLERS] + [("ddim", 0.7)]  # samplers with η
COVARIANCE = np.array([[1.3, 0.5, -0.1], [0.5, 0.6, 0.2], [-0.1, 0.2, 0.2]])


def grid(high: int, low: int, steps: int) -> np.ndarray:
    """Timesteps from high to low in exactly equal strides."""
    assert (high - low) % steps == 0
    levels = np.arange(high, low - 1, -((high - low) // steps), dtype=np.int32)
    return np.stack([levels[:-1], levels[1:]], axis=1)


@functools.cache
def gaussian_network(schedule: schedules.Schedule, kind: str = "x0"):
    """The optimal network for N(m, C)."""

    def predict(args, z, t):
        level = schedule.at(t[0])
        gain = level.alpha * COVARIANCE @ jnp.linalg.inv(level.alpha**2 * COVARIANCE + level.sigma**2 * jnp.eye(3))
        x0 = MEAN + (z - level.alpha * MEAN) @ gain.T
        return process.convert(x0, z, level.alpha, level.sigma, "x0", kind)

    return predict


def marginal(schedule: schedules.Schedule, t: float) -> tuple[np.ndarray, np.ndarray]:
    alpha, sigma, _ = map(np.asarray, schedule.at(t))
    return alpha * MEAN, alpha**2 * COVARIANCE + sigma**2 * np.eye(3)


def basis_noise(rows, index):
    """At step k, row 4 + 3 k + i of the batch is the i-th unit vector; all other rows are zero."""
    return (rows[:, None] - 4 - 3 * index == jnp.arange(3)).astype(jnp.float64)


def sampled(schedule, sampler, pairs, eta=0.0, kind="x0") -> tuple[np.ndarray, np.ndarray]:
    """Exact mean and covariance of the result if z_T has the true marginal."""
    noisy = adds_noise(SAMPLERS[sampler], eta)
    noises = 3 * len(pairs) if noisy else 0
    start = np.concatenate([np.zeros((1, 3)), np.eye(3), np.zeros((noises, 3))])
    end = sample(
        gaussian_network(schedule, kind),
        start,
        schedule,
        pairs,
        args=np.arange(len(start)),
        kind=kind,
        sampler=sampler,
        eta=eta,
        noise_fn=basis_noise if noisy else None,
        loop="host",  # one program for all numbers of steps
    )
    offset, columns = np.asarray(end[0]), np.asarray(end[1:] - end[0]).T
    mean, covariance = marginal(schedule, pairs[0, 0])
    transfer, noise = columns[:, :3], columns[:, 3:]
    return transfer @ mean + offset, transfer @ covariance @ transfer.T + noise @ noise.T


@pytest.mark.parametrize(
    "sampler, eta, factor",
    [
        *[("ddim", 0.0, 2), ("ddim", 0.5, 2), ("ddim", 1.0, 2), ("ancestral", 0.0, 2), ("euler", 0.0, 2)],
        *[("heun", 0.0, 4), ("dpmpp_2m", 0.0, 4), ("dpmpp_2m_sde", 0.0, 4), ("unipc", 0.0, 8)],
    ],
)
@pytest.mark.parametrize(
    "name, high, low", [("scaled_linear", 961, 65), ("cosine", 897, 129), ("rectified_flow", 897, 129)]
)
def test_the_error_on_a_gaussian_falls_with_the_order_of_the_sampler(name, high, low, sampler, eta, factor):
    with jax.enable_x64(True):
        schedule = dataclasses.replace(schedules.make(name), dtype="float64")
        true_mean, true_covariance = marginal(schedule, low)
        errors = []
        for steps in [(high - low) // stride for stride in (16, 8, 4)]:
            mean, covariance = sampled(schedule, sampler, grid(high, low, steps), eta)
            np.testing.assert_allclose(mean, true_mean, atol=1e-9)  # the mean moves on a straight line in (α, σ)
            errors.append(np.abs(covariance - true_covariance).max())
    # An error that keeps falling by the factor of the order has no constant part.
    np.testing.assert_allclose(np.array(errors[:-1]) / errors[1:], factor, rtol=0.12)


def test_2m_is_of_second_order_down_to_the_last_timesteps():
    """Near the data log-SNR changes fast, so that the order shows only at stride 1."""
    with jax.enable_x64(True):
        schedule = dataclasses.replace(SCHEDULE, dtype="float64")
        errors = [
            np.abs(sampled(schedule, "dpmpp_2m", grid(961, 1, n), 0.0)[1] - marginal(schedule, 1)[1]).max()
            for n in (240, 480, 960)
        ]
    assert 3.5 < errors[0] / errors[1] < 4.5 and 3.8 < errors[1] / errors[2] < 4.2


@pytest.mark.parametrize("spacing", ["trailing", pytest.param("karras", marks=pytest.mark.slow), "log_snr"])
@pytest.mark.parametrize("name", sorted(schedules.SCHEDULES))
@pytest.mark.parametrize("sampler, eta", EVERY)
def test_every_sampler_ends_at_the_data_distribution(sampler, eta, name, spacing):
    """At the clean level, over integer and real timesteps: what is missing falls with the number of steps."""
    errors = []
    with jax.enable_x64(True):
        schedule = dataclasses.replace(schedules.make(name), dtype="float64")
        for steps in (50, 200):
            mean, covariance = sampled(schedule, sampler, timesteps(schedule, steps, spacing), eta)
            np.testing.assert_allclose(mean, MEAN, atol=1e-6)
            errors.append(np.abs(covariance - COVARIANCE).max())
    first_order = sampler in ("ddim", "euler", "ancestral")
    last_step = 1e-3  # the last step takes x̂0 at a noise variance of at most 8.5e-4
    assert errors[0] < (0.3 if first_order else 0.04) and errors[1] < max(errors[0] / 3, last_step), errors


@pytest.mark.parametrize(
    "schedule", [SCHEDULE, pytest.param(RECTIFIED, marks=pytest.mark.slow)], ids=["scaled_linear", "rectified_flow"]
)
@pytest.mark.parametrize("sampler, eta", EVERY)
def test_the_prediction_kind_does_not_matter(sampler, eta, schedule):
    with jax.enable_x64(True):
        schedule = dataclasses.replace(schedule, dtype="float64")
        pairs = timesteps(schedule, 5, "log_snr")
        want = sampled(schedule, sampler, pairs, eta, "x0")
        for kind in ("eps", "v", "flow"):
            for got, expected in zip(sampled(schedule, sampler, pairs, eta, kind), want, strict=True):
                np.testing.assert_allclose(got, expected, rtol=1e-9, atol=1e-9)


@functools.cache
def point_network(kind: str):
    """The optimal network if the data is a single point, in args."""

    def predict(args, z, t):
        level = SCHEDULE.at(t, z)
        return process.convert(args["point"], z, level.alpha, level.sigma, "x0", kind)

    return predict


def random_noise(args, index):
    return jax.random.normal(jax.random.fold_in(args["key"], index), args["point"].shape)


@pytest.mark.parametrize("sampler, eta", [*EVERY, ("ddim", 1.0)])
@pytest.mark.parametrize("kind", sorted(process.KINDS))
def test_a_point_mass_is_recovered_exactly(kind, sampler, eta):
    """Any number of steps takes the marginal of one point to that point, up to the noise of the last timestep."""
    point, noise = np.random.default_rng(0).normal(size=(2, 2, 3, 4)).astype(np.float32)
    run = functools.partial(
        sample,
        point_network(kind),
        schedule=SCHEDULE,
        args={"point": point, "key": jax.random.key(0)},
        kind=kind,
        sampler=sampler,
        eta=eta,
        noise_fn=random_noise if adds_noise(SAMPLERS[sampler], eta) else None,
        loop="host",  # one program for all numbers of steps
    )
    for steps in (1, 2, 10):
        pairs = timesteps(SCHEDULE, steps, "trailing")
        end = run(process.corrupt(SCHEDULE, point, pairs[0, 0], noise), pairs=pairs)
        np.testing.assert_allclose(end, point, atol=5e-6)

        pairs = timesteps(SCHEDULE, steps, "release")
        end = run(process.corrupt(SCHEDULE, point, pairs[0, 0], noise), pairs=pairs)
        level = SCHEDULE.at(0)
        if not adds_noise(SAMPLERS[sampler], eta):
            np.testing.assert_allclose(end, level.alpha * point + level.sigma * noise, atol=2e-5)
        else:
            assert np.abs(end - level.alpha * point).max() < 4 * level.sigma


def test_2m_equals_ddim_in_its_first_order_steps():
    """The first step, which has no history, and the step to the clean level."""
    z = np.random.default_rng(1).normal(size=(2, 5)).astype(np.float32)
    for pair in ([[600, 300]], [[600, schedules.CLEAN]]):
        one, other = (
            sample(half, z, SCHEDULE, np.array(pair, np.int32), kind="v", sampler=name) for name in ("ddim", "dpmpp_2m")
        )
        np.testing.assert_allclose(one, other, atol=1e-6)


def half(args, z, t):
    return jax.tree.map(lambda x: jnp.tanh(x) / 2, z)


def test_eta_one_has_the_variance_of_ancestral_sampling():
    """One step back with η = 1 has the mean and variance of the posterior of the forward process."""
    buffers = schedules.ddpm_buffers(SCHEDULE)
    t = np.arange(1, 1000)
    now, then = SCHEDULE.at(t), SCHEDULE.at(t - 1)
    step = jax.jit(SAMPLERS["ddim"].step, static_argnames="kind")
    z, x0, noise = np.random.default_rng(2).normal(size=(3, 999)).astype(np.float32)

    def after(noise):
        return step(SAMPLERS["ddim"].init(z), x0, now=now, then=then, kind="x0", eta=1.0, noise=noise).z

    mean = buffers["posterior_mean_coef1"][t] * x0 + buffers["posterior_mean_coef2"][t] * z
    np.testing.assert_allclose(after(jnp.zeros(999)), mean, atol=2e-5)
    spread = (after(noise) - after(jnp.zeros(999))) / noise
    np.testing.assert_allclose(spread, np.sqrt(buffers["posterior_variance"][t]), rtol=5e-3)


def tree_noise(args, index):
    return {name: jnp.full(shape, jnp.sin(index + len(name))) for name, shape in (("a", (2, 3)), ("bb", (2, 4, 4, 1)))}


@pytest.mark.parametrize("sampler, eta", EVERY)
def test_scan_and_host_loop_agree_on_a_tree_of_latents(sampler, eta):
    rng = np.random.default_rng(3)
    z = {"a": rng.normal(size=(2, 3)).astype(np.float32), "bb": rng.normal(size=(2, 4, 4, 1)).astype(np.float32)}
    pairs = timesteps(SCHEDULE, 12)
    noisy = adds_noise(SAMPLERS[sampler], eta)
    options = dict(kind={"a": "x0", "bb": "v"}, sampler=sampler, eta=eta, noise_fn=tree_noise if noisy else None)
    scan, host = (sample(half, z, SCHEDULE, pairs, loop=loop, **options) for loop in ("scan", "host"))
    alone = sample(half, z["bb"], SCHEDULE, pairs, **{**options, "kind": "v", "noise_fn": None}) if not noisy else None
    for name in z:
        np.testing.assert_allclose(scan[name], host[name], atol=1e-6)
    if alone is not None:
        np.testing.assert_allclose(scan["bb"], alone, atol=1e-6)


def test_timesteps_of_a_delayed_latent_are_constant_before_and_after():
    pairs = np.array([[9, 5], [5, -1]], np.int32)
    assert delayed(pairs, 0, 2).tolist() == pairs.tolist()
    assert delayed(pairs, 1, 4).tolist() == [[9, 9], [9, 5], [5, -1], [-1, -1]]


@pytest.mark.parametrize("sampler", [name for name, sampler in SAMPLERS.items() if sampler.noise != "always"])
@pytest.mark.parametrize("spacing", ["trailing", "log_snr"])
@pytest.mark.parametrize("loop", ["scan", "host"])
def test_a_delayed_latent_ends_as_if_sampled_alone(loop, spacing, sampler):
    rng = np.random.default_rng(4)
    z = {"a": rng.normal(size=(2, 3)).astype(np.float32), "b": rng.normal(size=(2, 3)).astype(np.float32)}
    pairs = timesteps(SCHEDULE, 6, spacing)

    def predict(args, z, t):
        return jax.tree.map(lambda z, t: z * (t / 1000)[:, None], z, t)

    pairs_by_latent = np.stack([delayed(pairs, 0, 8), delayed(pairs, 2, 8)], axis=1)
    got = sample(predict, z, SCHEDULE, pairs_by_latent, kind="v", sampler=sampler, loop=loop)
    for name in z:
        alone = sample(predict, z[name], SCHEDULE, pairs, kind="v", sampler=sampler, loop=loop)
        np.testing.assert_allclose(got[name], alone, atol=1e-6)


@pytest.mark.parametrize("loop", ["scan", "host"])
def test_new_data_eta_and_timesteps_do_not_recompile(loop):
    traces = []

    def predict(args, z, t):
        traces.append(t.shape)
        return args * z

    def noise(args, index):
        return jnp.full((2, 3), args)

    for scale, eta, spacing in ((0.1, 0.2, "trailing"), (0.3, 1.0, "release")):
        pairs = timesteps(SCHEDULE, 5, spacing)
        options = dict(args=scale, kind="eps", eta=eta, noise_fn=noise, loop=loop)
        sample(predict, np.full((2, 3), scale, np.float32), schedules.scaled_linear(), pairs, **options)
    assert traces == [(2,)]


@pytest.mark.parametrize("kind", ["eps", "flow"])
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
@pytest.mark.parametrize("sampler, eta", EVERY)
def test_latents_are_finite_and_f32_at_the_clean_level(sampler, eta, dtype, kind):
    """Of one step, and of the last of three, from latents and predictions of either type."""
    z = jnp.ones((2, 3), dtype)
    noise = (lambda args, index: jnp.ones((2, 3))) if adds_noise(SAMPLERS[sampler], eta) else None
    for steps in (1, 3):
        end = sample(
            lambda args, z, t: z.astype(dtype), z, SCHEDULE, timesteps(SCHEDULE, steps), kind=kind, sampler=sampler,
            eta=eta, noise_fn=noise,
        )  # fmt: skip
        assert end.dtype == jnp.float32 and np.isfinite(end).all()


@pytest.mark.parametrize("loop", ["scan", "host"])
@pytest.mark.parametrize("sampler, eta", EVERY)
def test_a_step_without_change_of_timestep_changes_nothing(sampler, eta, loop):
    z = np.random.default_rng(5).normal(size=(2, 3)).astype(np.float32)
    noise = (lambda args, index: args[index]) if adds_noise(SAMPLERS[sampler], eta) else None
    draws = np.random.default_rng(6).normal(size=(5, 2, 3)).astype(np.float32)
    options = dict(kind="v", sampler=sampler, eta=eta, noise_fn=noise, loop=loop)
    pairs = np.array([[999, 700], [700, 300], [300, 100]], np.int32)
    want = sample(half, z, SCHEDULE, pairs, args=draws[[0, 2, 4]], **options)
    waiting = np.array([[999, 700], [700, 700], [700, 300], [300, 300], [300, 100]], np.int32)
    np.testing.assert_array_equal(sample(half, z, SCHEDULE, waiting, args=draws, **options), want)
    # The same for one latent of two, whose other one moves.
    other = np.array([[999, 800], [800, 600], [600, 400], [400, 200], [200, 100]], np.int32)
    both = sample(half, {"a": z, "b": z}, SCHEDULE, np.stack([waiting, other], 1), args=draws, **{
        **options, "noise_fn": noise and (lambda args, index: {"a": args[index], "b": args[index]})
    })  # fmt: skip
    np.testing.assert_allclose(both["a"], want, atol=1e-6)


def test_network_calls_of_a_step():
    pairs = np.array([[9, 5], [5, -1]], np.int32)
    one = network_calls(pairs, 1)
    assert one.pairs.tolist() == pairs.tolist() and one.step.tolist() == [0, 1] and one.evaluation.tolist() == [0, 0]
    two = network_calls(pairs, 2)  # the last step, to the clean level, has one
    assert two.pairs.tolist() == [[9, 5], [9, 5], [5, -1]]
    assert two.step.tolist() == [0, 0, 1] and two.evaluation.tolist() == [0, 1, 0]
    late = np.stack([delayed(pairs, 0, 4), delayed(pairs, 1, 4)], axis=1)
    calls = network_calls(late, 2)
    assert calls.step.tolist() == [0, 0, 1, 1, 2] and calls.evaluation.tolist() == [0, 1, 0, 1, 0]
    assert calls.pairs[:, 0].tolist() == [[9, 5], [9, 5], [5, -1], [-1, -1], [-1, -1]]
    assert calls.pairs[:, 1].tolist() == [[9, 9], [9, 9], [9, 5], [9, 5], [5, -1]]


def test_heun_calls_the_network_at_both_ends_of_a_step():
    seen = []

    def predict(args, z, t):
        jax.debug.callback(lambda t: seen.append(int(t[0])), t, ordered=True)
        return z

    for loop in ("host", "scan"):
        seen.clear()
        pairs = np.array([[900, 600], [600, 300], [300, -1]], np.int32)
        jax.block_until_ready(sample(predict, jnp.ones((2, 3)), SCHEDULE, pairs, sampler="heun", loop=loop))
        jax.effects_barrier()
        assert seen == [900, 600, 600, 300, 300]


@pytest.mark.parametrize("steps, count, first", [(10, 10, 901), (50, 50, 981), (30, 31, 991)])
def test_timesteps_of_the_release(steps, count, first):
    pairs = timesteps(SCHEDULE, steps, "release")
    stride = 1000 // steps
    assert pairs.shape == (count, 2) and pairs.dtype == np.int32
    np.testing.assert_array_equal(pairs[:, 0], np.arange(first, 0, -stride))
    np.testing.assert_array_equal(pairs[:, 1], [*pairs[1:, 0], 0])


@pytest.mark.parametrize("steps", [1, 3, 25, 1000])
def test_trailing_timesteps_start_at_the_last_and_end_at_the_clean_level(steps):
    pairs = timesteps(SCHEDULE, steps, "trailing")
    assert pairs.shape == (steps, 2) and pairs[0, 0] == 999 and pairs[-1, 1] == schedules.CLEAN
    np.testing.assert_array_equal(pairs[1:, 0], pairs[:-1, 1])
    assert np.ptp(pairs[:, 0] - pairs[:, 1]) <= 1


@pytest.mark.parametrize("name", sorted(schedules.SCHEDULES))
@pytest.mark.parametrize("steps", [1, 2, 7, 40])
def test_spacings_over_real_timesteps(name, steps):
    schedule = schedules.make(name)
    start = schedule.timestep(np.array(-2 * np.log(80.0)))  # 999 if the schedule ends with less noise
    for spacing in ("karras", "log_snr"):
        pairs = timesteps(schedule, steps, spacing)
        assert pairs.shape == (steps, 2) and pairs.dtype == np.float32 and pairs[-1, 1] == schedules.CLEAN
        np.testing.assert_array_equal(pairs[1:, 0], pairs[:-1, 1])
        assert np.all(pairs[:, 1] < pairs[:, 0]) and abs(pairs[0, 0] - start) < 1e-3
        log_snr = np.asarray(schedule.at(pairs[:, 0]).log_snr, np.float64)
        even = log_snr if spacing == "log_snr" else np.exp(-log_snr / 2) ** (1 / 7)
        np.testing.assert_allclose(np.diff(even), np.diff(even).mean() if steps > 1 else [], rtol=5e-3)
        ratio = np.exp(-log_snr / 2)
        assert ratio.max() < 80.1 and (steps == 1 or 0.0019 < ratio.min() < 0.03)


@pytest.mark.parametrize(
    "steps, spacing, words",
    [
        (1000, "release", "start at t = 1000, but the schedule ends at 999"),
        (333, "release", "start at t = 1000"),
        (1001, "trailing", "steps must be between 1 and 1000, got 1001"),
        (0, "release", "between 1 and 1000, got 0"),
        (5, "linear", "unknown spacing 'linear'"),
        (5, "karas", r"unknown spacing 'karas'; .*\(did you mean karras\?\)$"),
        (0, "karras", "between 1 and 1000, got 0"),
    ],
)
def test_invalid_timesteps_raise(steps, spacing, words):
    with pytest.raises(ConfigError, match=words):
        timesteps(SCHEDULE, steps, spacing)


@pytest.mark.parametrize(
    "options, words",
    [
        ({"sampler": "dpmpp"}, r"unknown sampler 'dpmpp'; .*\(did you mean dpmpp_2m\?\)$"),
        ({"sampler": "ancestral"}, "ancestral adds noise and needs a noise_fn"),
        ({"sampler": "ancestral", "eta": 0.5, "noise_fn": random_noise}, "has no noise here"),
        ({"loop": "while"}, "unknown loop 'while'"),
        ({"eta": 1.5, "noise_fn": random_noise}, "between 0 and 1"),
        ({"eta": 0.5}, "has no noise here"),
        ({"eta": 0.5, "noise_fn": random_noise, "sampler": "dpmpp_2m"}, "has no noise here"),
        ({"kind": "score"}, "unknown kind 'score'"),
    ],
)
def test_invalid_sampler_options_raise(options, words):
    with pytest.raises(ConfigError, match=words):
        sample(half, np.ones((1, 2), np.float32), SCHEDULE, timesteps(SCHEDULE, 2), **options)
