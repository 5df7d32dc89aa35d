"""The benchmark of adapters: scikit-learn's digits as files and back, what reads them, and its table."""

import csv

import numpy as np
import pytest

from benchmarks.lora import Digits, enlarge, halves, judge, make, reduce, sheet, to_table
from codi_jax.data.source import make_source


@pytest.fixture(scope="module")
def digits():
    pytest.importorskip("sklearn")
    return halves()


def test_two_halves_of_all_digits(digits):
    assert [len(half.labels) for half in digits] == [899, 898]
    assert all(set(half.labels) == set(range(10)) and half.images.max() == 255 for half in digits)


def test_digits_are_enlarged_to_squares_and_back(digits):
    images = digits[0].images[:5]
    large = enlarge(images, 32)
    assert large.shape == (5, 32, 32, 3) and (large[:, 4:8, 8:12] == images[:, 1, 2][:, None, None, None]).all()
    np.testing.assert_allclose(reduce(large), images.reshape(5, 64) / 255 * 16, atol=1e-5)


def test_the_folder_holds_the_digits_and_their_names(digits, tmp_path):
    few = Digits(digits[0].images[:3], digits[0].labels[:3])
    path = make(tmp_path, few, 32)
    with path.open(newline="") as file:
        assert [row["text"] for row in csv.DictReader(file)] == ["zero", "two", "four"]
    media = {"modalities": ("text", "image"), "size": 32}
    sample = make_source({"name": "manifest", "path": str(path), "media": media})[1]
    np.testing.assert_array_equal(sample["image"], enlarge(few.images, 32)[1])


def test_the_judge_reads_digits_it_has_not_seen_and_no_noise(digits):
    first, second = digits
    measure = judge(second)
    real = measure(enlarge(first.images, 32), first.labels)
    assert real["accuracy"] > 0.95 and real["distance"] < 20
    noise = np.random.default_rng(0).integers(0, 256, (100, 32, 32, 3), np.uint8)
    of_noise = measure(noise, np.arange(100) % 10)
    assert of_noise["accuracy"] < 0.3 and of_noise["distance"] > 10 * real["distance"]


def test_the_picture_has_a_line_of_digits_trained_on_and_of_each_model(digits):
    before, after = (np.full((12, 32, 32, 3), grey, np.uint8) for grey in (50, 200))
    picture = np.asarray(sheet(digits[0], before, after))
    assert picture.shape == (192, 640, 3) and (picture[64:128] == 50).all() and (picture[128:] == 200).all()
    three = digits[0].images[digits[0].labels == 3][0]
    np.testing.assert_array_equal(picture[:64, 192:256], enlarge(three[None], 64)[0])


def test_a_line_for_each_model():
    row = {"accuracy": 0.5, "interval": [0.25, 0.75], "distance": 12.34}
    assert to_table({"before": row}).splitlines()[1].split() == ["before", "0.500", "(0.25", "to", "0.75)", "12.3"]
