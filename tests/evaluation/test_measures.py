"""Measures of folders by a network whose features are known, with numbers computed by hand."""

import numpy as np
import pytest

from codi_jax.config import ConfigError
from codi_jax.evaluation.measure import METRICS
from codi_jax.evaluation.measures.base import Case
from codi_jax.media import files
from codi_jax.metrics import frechet
from tests.evaluation import made

RGB = ("red", "green", "blue")


def measured(study, name):
    """The results of a metric by case."""
    return {case: METRICS[name].measure(study, case) for case in METRICS[name].cases(study)}


def only(study, name):
    ((case, result),) = measured(study, name).items()
    return case, result


def test_a_folder_has_no_distance_from_itself(tmp_path):
    folder = made.images(tmp_path / "a", 8)
    study = made.study(tmp_path / "out", folder, folder, kind="inception", resamples=10, batch_size=3)
    case, found = only(study, "fid")
    assert case == Case(("image",), "colours") and (found.n, found.n_reference) == (8, 8)
    assert found.numbers["fid"] == pytest.approx(0, abs=1e-9) and found.intervals["fid"][1] > 0
    assert not found.notes  # 8 samples of 3 features
    _, found = only(study, "precision_recall")
    assert found.numbers == {"precision": 1, "recall": 1} and found.intervals["recall"] == [1, 1]
    _, found = only(study, "kid")
    assert found.numbers["kid"] < 0 and list(found.intervals) == ["kid"]  # without bias, of equal samples


def test_a_single_sample_has_numbers_and_no_interval(tmp_path):
    folder = made.coloured(tmp_path / "a", RGB[:1], RGB[:1])
    study = made.study(tmp_path / "out", folder, folder, kind="inception", resamples=5)
    names = ("inception_score", "bleu", "rouge", "cider", "cosine")
    for found in (only(study, name)[1] for name in names):
        assert found.n == 1 and found.intervals and np.isnan(list(found.intervals.values())).all()
    two = made.coloured(tmp_path / "b", RGB[:2], RGB[:2])
    study = made.study(tmp_path / "two", two, two, kind="inception", resamples=20)
    assert all(np.isfinite(list(only(study, name)[1].intervals.values())).all() for name in names)
    _, found = only(study, "kid")
    assert np.isfinite(found.numbers["kid"]) and np.isnan(found.intervals["kid"]).all()  # of one sample, twice


def test_distances_are_those_of_the_features(tmp_path):
    a, b = made.images(tmp_path / "a", 8, 1), made.images(tmp_path / "b", 5, 2)
    study = made.study(tmp_path / "out", a, b, kind="inception", resamples=0)
    x, y = (study.features(side, "colours", "image").values["pool"] for side in ("samples", "real"))
    assert len(x) == 8 and len(y) == 5
    _, found = only(study, "fid")
    assert found.numbers["fid"] == pytest.approx(frechet.distance(frechet.fit(x), frechet.fit(y)))
    assert not found.intervals and found.n_reference == 5
    assert not measured(study, "frechet")  # that of images by Inception is FID
    other = made.study(tmp_path / "other", a, b, resamples=0)
    assert only(other, "frechet")[1].numbers["frechet"] == pytest.approx(found.numbers["fid"])
    assert not measured(other, "fid")


def test_the_score_of_three_classes_needs_no_real_images(tmp_path):
    folder = made.coloured(tmp_path / "a", RGB, RGB)
    study = made.study(tmp_path / "out", folder, kind="inception", resamples=0)
    _, found = only(study, "inception_score")
    p = np.exp([3.0, -3, -3]) / np.exp([3.0, -3, -3]).sum()
    assert found.numbers["inception_score"] == pytest.approx(3 * np.exp((p * np.log(p)).sum()), rel=1e-5)
    assert not measured(study, "fid") and not measured(study, "kid")


def test_swapped_captions_lower_the_cosine(tmp_path):
    right = made.coloured(tmp_path / "a", RGB, RGB)
    swapped = made.coloured(tmp_path / "b", RGB, ("green", "red", "blue"))
    case, found = only(made.study(tmp_path / "1", right, resamples=50), "cosine")
    assert case.on == ("text", "image") and case.sides == ("samples", "samples")
    assert found.numbers["cosine"] == pytest.approx(1) and found.numbers["shuffled"] == pytest.approx(-1 / 3)
    assert found.intervals["cosine"] == pytest.approx([1, 1])
    study = made.study(tmp_path / "2", swapped, resamples=0)
    _, worse = only(study, "cosine")
    assert worse.numbers["cosine"] == pytest.approx((1 - 1 / 3 - 1 / 3) / 3)
    _, ranks = only(study, "retrieval")
    assert ranks.numbers["text_to_image/recall_1"] == pytest.approx(1 / 3) and ranks.n == 3
    assert not measured(study, "sim")  # one pair, whose SIM is its cosine


def test_captions_of_the_real_side_are_partners_of_the_same_names(tmp_path):
    images = made.coloured(tmp_path / "a", RGB, RGB)
    for path in images.glob("*.txt"):
        path.unlink()
    real = made.coloured(tmp_path / "b", reversed(RGB), RGB)
    (real / "text_0.txt").write_text("a red thing\na green one\n")
    made.colour(real / "image_7.png", "red")
    (real / "text_7.txt").write_text("a green thing")
    case, found = only(made.study(tmp_path / "out", images, real, resamples=0), "cosine")
    assert case.sides == ("real", "samples") and found.notes == ("text is that of --real",)
    assert found.numbers["cosine"] == pytest.approx(1) and found.n == 3
    (real / "text_2.txt").unlink()
    (real / "image_2.png").unlink()
    with pytest.raises(ConfigError, match=r"b: no text for sample 2 of .*a, and 1 of 3 in all"):
        measured(made.study(tmp_path / "out", images, real), "cosine")


def test_captions_are_scored_against_all_references_of_their_names(tmp_path):
    for side, texts in {
        "a": ("a red thing that is small", "one"),
        "b": ("x\na red thing that is small", "two"),
    }.items():
        (tmp_path / side).mkdir()
        for i, text in enumerate(texts):
            (tmp_path / side / f"{i}.txt").write_text(text)
    study = made.study(tmp_path / "out", tmp_path / "a", tmp_path / "b", resamples=20)
    _, found = only(study, "bleu")
    assert found.numbers["bleu_1"] == pytest.approx(6 / 7) and found.n == 2 and found.n_reference == 3
    assert next(iter(found.numbers)) == "bleu_4" and found.intervals["bleu_1"] == pytest.approx([0, 1], abs=1e-6)
    assert only(study, "rouge")[1].numbers == {"rouge_l": pytest.approx(0.5)}
    # Of two samples, an n-gram of one has ln 2, and the first caption is one of its two references.
    assert only(study, "cider")[1].numbers == {"cider_d": pytest.approx(10 / 2 / 2)}
    assert not measured(made.study(tmp_path / "out", tmp_path / "a"), "bleu")


def test_synchrony_is_measured_over_what_all_samples_have(tmp_path):
    """A square that jumps with a click, in both of two samples."""
    for i, frame in enumerate((3, 5)):
        frames = np.full((8, 32, 32, 3), 20, np.uint8)
        for t in range(8):
            left = 4 if t < frame else 12
            frames[t, 8:24, left : left + 12] = 230
        files.write_video(tmp_path / f"video_{i}.mp4", frames, 8)
        wave = np.zeros(16000)
        start = round((frame / 8) * 16000)
        wave[start : start + 400] = np.random.default_rng(0).uniform(-0.9, 0.9, 400)
        files.write_wav(tmp_path / f"audio_{i}.wav", files.to_int16(wave), 16000)
    study = made.study(tmp_path / "out", tmp_path, batch_size=4)
    case, found = only(study, "av_align")
    assert case.on == ("audio", "video") and found.n == 2
    assert found.options["frames"] == 8 and found.options["frame_rate"] == 8 and found.options["seconds"] == 1
    assert found.numbers["av_align"] > 0.4 and found.numbers["still"] == 0
    assert found.numbers["av_align"] > found.numbers["shuffled"]
    _, curve = only(study, "lag_curve")
    assert abs(curve.numbers["lag"]) < 0.2 and curve.numbers["still_share"] == 0
    made.tone(tmp_path / "audio_1.wav", 440, seconds=0.1)
    with pytest.raises(ConfigError, match=r"have 0\.1 s in common, less than two frames at 8 a second"):
        measured(made.study(tmp_path / "out", tmp_path), "av_align")
