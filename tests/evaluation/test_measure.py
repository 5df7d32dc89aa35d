"""A measurement as a whole: what applies is measured, what does not is named, and the bytes are the same twice."""

import json

import numpy as np
import pytest

from codi_jax.config import ConfigError
from codi_jax.evaluation.measure import RANDOM_NOTE, measure, table
from codi_jax.evaluation.networks import NETWORKS
from codi_jax.evaluation.settings import Settings
from tests.evaluation import made

pytestmark = pytest.mark.usefixtures("restored_registries")


@pytest.fixture(autouse=True)
def colours(restored_registries):
    """The network of the tests, as a plugin adds one; its weights are its identity."""
    NETWORKS.add("colours", lambda weights, settings: made.Colours(weights))


def run(out, samples, real=None, networks="colours=sha", **settings):
    return measure(str(samples), real and str(real), networks, out, Settings(**settings), made.silent)


def refused(*args, **kwargs):
    with pytest.raises(ConfigError) as error:
        run(*args, **kwargs)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_the_same_measurement_twice_gives_the_same_bytes(tmp_path):
    a, b = made.coloured(tmp_path / "a", made.COLOURS, made.COLOURS), made.images(tmp_path / "b", 4)
    found = run(tmp_path / "out", a, b, batch_size=2)
    first = (tmp_path / "out" / "metrics.json").read_bytes()
    assert json.loads(first) == json.loads(json.dumps(found))
    run(tmp_path / "out", a, b, batch_size=2)  # from the features of the first
    run(tmp_path / "new", a, b, batch_size=2)
    assert (tmp_path / "out" / "metrics.json").read_bytes() == (tmp_path / "new" / "metrics.json").read_bytes() == first
    assert [row["metric"] for row in found["results"]] == ["frechet", "cosine", "retrieval"]
    assert found["samples"] == {"path": str(a), "n": 3, "modalities": ["text", "image"]}
    assert found["networks"] == {"colours": {"kind": "colours", "weights": "sha"}}
    assert found["not_measured"]["bleu"] == "text in --samples, and in --real for the same keys"
    assert "fvd" not in str(found)


def test_the_table_names_network_interval_and_number(tmp_path):
    a = made.coloured(tmp_path / "a", made.COLOURS, made.COLOURS)
    found = run(tmp_path / "out", a, networks="colours:mine=random", metrics=("cosine",))
    ((row),) = found["results"]
    assert row["notes"] == [RANDOM_NOTE] and row["network"] == "mine" and row["n"] == 3
    lines = table(found).splitlines()
    assert lines[1].split() == ["cosine", "text+image", "mine", "1", "1", "to", "1", "3"]
    assert lines[-1] == f"{RANDOM_NOTE} (cosine text+image mine)"
    alone = made.coloured(tmp_path / "one", ["red"], ["red"])
    found = run(tmp_path / "out", alone, metrics=("cosine",))
    assert found["results"][0]["numbers"]["shuffled"] is None and "undefined" in table(found)
    assert found["results"][0]["intervals"] == {"cosine": [None, None]}
    assert table(found).splitlines()[1].split() == ["cosine", "text+image", "colours", "1", "1"]  # no interval, n


def test_what_does_not_apply_is_refused_before_anything_is_computed(tmp_path):
    a = made.images(tmp_path / "a", 3)
    out = tmp_path / "out"
    assert refused(out, a, metrics=("fdi",)).startswith(
        "--metrics: no metric 'fdi' (did you mean fid?); there are fid,"
    )
    assert refused(out, a, metrics=("fid",)).startswith("--metrics: fid needs at least two images in --samples and")
    assert refused(out, a, networks="").endswith("image, and no --real, no --networks: no metric applies to that")
    assert refused(out, a, a, networks="colours=x,tower=digit_world,vggish=random:64").startswith(
        "--networks: vggish would measure nothing of"
    )
    assert not out.exists()


def test_a_damaged_file_is_named_and_the_rest_is_kept(tmp_path):
    a = made.images(tmp_path / "a", 4)
    (a / "image_3.png").write_bytes(b"not an image")
    out = tmp_path / "out"
    assert "image_3.png: not an image of a known format" in refused(out, a, a, batch_size=2)
    assert [x.name for x in (out / "features" / "samples.colours.image").glob("*.npz")] == ["part-00000.npz"]
    made.noise(a / "image_3.png", 3)
    assert np.isfinite(run(out, a, a, batch_size=2)["results"][0]["numbers"]["frechet"])
