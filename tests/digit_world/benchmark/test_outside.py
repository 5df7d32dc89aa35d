"""The rows of outside judges, from networks and samples that are made by hand."""

import numpy as np
import pytest

from codi_jax.digit_world.benchmark import outside
from codi_jax.digit_world.judges import pretrained
from codi_jax.metrics.intervals import proportion_interval, wilson

N = 6
DIGITS = np.arange(N)
WORDS = np.array(["zero", "one", "two", "three", "four", "five"])
INSTANCES = {"glyph": np.array([1, 1, 2, 2, 3, 3]), "video glyph": DIGITS}


def captions(digits, colour="red"):
    return np.array([f"a {colour} {WORDS[d]} moving left" for d in digits])


def evaluation(names=("text", "image")):
    """Images are their digits, which the network of the test returns; the last image is wrong."""
    values = {"text": captions(DIGITS), "image": DIGITS.astype(np.uint8), "audio": DIGITS.astype(np.int16)}
    values = {name: values[name] for name in names}
    factors = {"digit": DIGITS, **dict.fromkeys(("colour", "motion", "voice", "moment"), np.zeros(N, int))}
    wrong = {**values, "image": np.array([0, 1, 2, 3, 9, 9])}
    directions = {f"{a}->{b}": {"values": wrong[b]} for a in names for b in names}
    joint = {"values": {**values, "image": np.array([0, 1, 2, 3, 4, 0])}}
    return {
        "real": {kind: {"values": values, "factors": factors, "instances": INSTANCES} for kind in ("seen", "held_out")},
        "codec": {name: {"values": wrong[name]} for name in names},
        "matrix": directions,
        "held_out": {"text->image": {"values": values["image"]}},
        "joint": {"+".join(names): joint, "text+image": joint},
        "independent": {"values": {**values, "image": np.roll(DIGITS, 1)}},
    }


@pytest.fixture
def network(monkeypatch):
    monkeypatch.setattr(pretrained, "make_readers", lambda codi, values: ({"image": np.asarray}, {"image": "network"}))


def test_directions_by_hand(network):
    read = outside.judge(None, evaluation(), N)
    assert read["n"] == N and read["judges"] == {"text": "words of the caption", "image": "network"}
    cell = read["matrix"]["text->image"]
    row = cell["factors"]["digit"]
    assert set(cell["factors"]) == {"digit"} and cell["all"] is None  # the network does not read the colour
    assert (row["accuracy"], row["ceiling"], row["shuffled"]) == (4 / 6, 1.0, 0.0)
    assert row["interval"] == list(wilson(4 / 6, 6)) and row["clusters"] == row["n_effective"] == 6
    # Prompts of images share glyphs: three clusters of two.
    row = read["matrix"]["image->image"]["factors"]["digit"]
    expected = proportion_interval(np.array([1, 1, 1, 1, 0, 0]), [INSTANCES["glyph"]])
    assert row["clusters"] == 3 and row["n_effective"] == expected.n_effective < 2
    assert row["interval"] == list(expected.interval) and read["codec"]["image"]["factors"]["digit"] == row
    # Captions are parsed: every factor that the prompt carries, and all of them at once.
    cell = read["matrix"]["text->text"]
    assert [cell["factors"][f]["accuracy"] for f in ("digit", "colour", "motion")] == [1, 1, 1]
    assert cell["factors"]["voice"]["accuracy"] == cell["all"]["accuracy"] == 0  # these captions have no voice
    assert set(read["matrix"]["image->text"]["factors"]) == {"digit", "colour"}
    assert read["matrix"]["image->text"]["all"]["accuracy"] == 1
    assert read["held_out"]["text->image"]["factors"]["digit"]["accuracy"] == 1


def test_sets_by_hand(network):
    row = outside.judge(None, evaluation(), 5)["joint"]["text+image"]
    assert row["n"] == 5 and set(row) == {"n", "digit"}  # no outside judge reads the colour of images
    digit = row["digit"]
    assert (digit["joint"], digit["independent"], digit["shuffled"]) == (1.0, 0.0, 0.0)
    assert digit["chance"] == pytest.approx(5 * 0.2**2) and digit["interval"] == list(wilson(1.0, 5))
    assert "fidelity" not in digit
    # A set is read if every output that carries the factor is: nothing reads this audio.
    assert set(outside.judge(None, evaluation(("text", "image", "audio")), N)["joint"]) == {"text+image"}


def test_factors_are_those_of_the_evaluation(network):
    read = outside.judge(None, evaluation(), N, ("digit", "colour"))
    assert set(read["matrix"]["text->text"]["factors"]) == {"digit", "colour"}


def test_phase_correlation_reads_videos_of_the_world(network):
    from codi_jax.data.source import make_source, read_batch

    names = ("text", "video")
    source = make_source({"name": "digit_world", "split": "test", "size": N, "seed": 0, "modalities": names})
    batch = read_batch(source, list(range(N)))
    values = {"text": batch["text"]["caption"], "video": ((batch["video"] + 1) * 127.5).astype(np.uint8)}
    real = {"values": values, "factors": batch["factors"], "instances": batch["instances"]}
    samples = {"real": {"seen": real}, "matrix": {"text->video": {"values": values["video"][::-1]}}}
    read = outside.judge(None, samples, N)
    cell = read["matrix"]["text->video"]
    assert set(cell["factors"]) == {"motion", "moment"} and cell["all"] is None
    for factor, row in cell["factors"].items():
        truth = batch["factors"][factor]
        assert (row["accuracy"], row["ceiling"]) == ((truth == truth[::-1]).mean(), 1)
    assert read["joint"] == {} and read["held_out"] == {}


def test_without_networks_there_are_no_rows(monkeypatch):
    monkeypatch.setattr(pretrained, "_package", lambda name: None)
    read = outside.judge(None, evaluation(), N)
    assert read["judges"] == {"image": pretrained.NOT_INSTALLED}
    assert not any(read[kind] for kind in ("codec", "matrix", "held_out", "joint"))
    line = outside.described({"pretrained": read})
    assert line == "No outside judges (image: not installed: pip install 'codi_jax[judges]')"
    assert outside.described({}) == outside.described({"pretrained": {}}) == ""


def test_cells_of_files_with_and_without_factors(network):
    metrics = {"pretrained": outside.judge(None, evaluation(), N)}
    for kind in ("codec", "matrix", "held_out"):
        assert outside.cells(metrics, kind) == metrics["pretrained"][kind]
    assert outside.cells(metrics, "joint")["text+image"]["factors"].keys() == {"digit"}
    assert outside.described(metrics).startswith("outside: judges that were not trained on this world, n = 6 (text: ")
    old = {
        "pretrained": {
            "n": 64,
            "judges": {"image": "network"},
            "matrix": {"text->image": {"accuracy": 0.5, "ceiling": 0.75}},
            "joint": {"text+image": {"joint": 0.5, "independent": 0.25}},
        }
    }
    cell = {"n": 64, "factors": {"digit": {"accuracy": 0.5, "ceiling": 0.75}}, "all": None}
    assert outside.cells(old, "matrix") == {"text->image": cell}
    assert outside.cells(old, "joint")["text+image"]["factors"]["digit"] == {"joint": 0.5, "independent": 0.25}
    assert outside.cells(old, "codec") == outside.cells({}, "matrix") == {}
