import numpy as np

from codi_jax.digit_world.draws import choose, uniform

N = 40_000


def test_a_number_depends_only_on_seed_name_and_index():
    index = np.arange(100)
    together = uniform("s", ("a", "b"), index)
    np.testing.assert_array_equal(together["b"], uniform("s", ("b",), index)["b"])
    np.testing.assert_array_equal(together["a"][::-7], uniform("s", ("a",), index[::-7])["a"])


def test_numbers_are_uniform_and_independent_of_neighbours_names_and_seeds():
    index = np.arange(N)
    u = uniform("0", ("a", "b"), index)
    other = uniform("1", ("a",), index)["a"]
    for values in u.values():
        assert values.min() >= 0 and values.max() < 1
        counts = np.bincount(choose(values, 60), minlength=60)
        chi2 = ((counts - N / 60) ** 2 / (N / 60)).sum()
        assert 25 < chi2 < 110  # 59 degrees of freedom, six sigma
    pairs = {"names": (u["a"], u["b"]), "seeds": (u["a"], other), "neighbours": (u["a"][:-1], u["a"][1:])}
    for what, (x, y) in pairs.items():
        table, _, _ = np.histogram2d(x, y, bins=8, range=[[0, 1], [0, 1]])
        chi2 = ((table - len(x) / 64) ** 2 / (len(x) / 64)).sum()
        assert chi2 < 120, what


def test_choose_stays_in_range():
    assert choose(np.array([0.0, 1 - 2.0**-53]), 10).tolist() == [0, 9]
