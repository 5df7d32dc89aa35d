"""`evaluate` end to end, with a generator that copies real samples instead of a model."""

import importlib.util
import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from codi_jax import digit_world
from codi_jax.config import ConfigError
from codi_jax.data.source import make_source
from codi_jax.digit_world import FACTORS
from codi_jax.digit_world.benchmark import compare, run
from codi_jax.digit_world.benchmark.order import in_order
from codi_jax.digit_world.benchmark.samples import take
from codi_jax.digit_world.benchmark.settings import Scope
from codi_jax.metrics.agreement import UNREAD
from codi_jax.metrics.intervals import proportion_interval
from codi_jax.parallel import paths
from codi_jax.train.recipe import open_run
from tests import toy

ROOT = Path(__file__).parents[3]
N = 8
WITH_FLOORS = SimpleNamespace(evaluate={"floors": {}})


def demo_run(workdir, **evaluate):
    spec = importlib.util.spec_from_file_location("demo", ROOT / "configs" / "digit_world.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    config = module.get_config("tiny,modalities=text+image")
    config.evaluate.update({"n": N, "reference": 16, "combinations": 8, "mixes": (), **evaluate})
    with config.unlocked():
        config.evaluate.judges = str(toy.random_package())
    return open_run(config, workdir)


@pytest.fixture
def variables(tmp_path):
    components = demo_run(tmp_path).codi.component_names()
    return {"params": {component: {} for component in components}, "constants": {}}


class CopyingGenerator:
    """Returns real values instead of generated ones.

    With a prompt: those of the sample that the prompt belongs to, except that the last caption is empty. Without one:
    joint outputs are of the same sample, single outputs of different samples. With mix weights: those of the text
    prompt if its weight is about half or more, else those of the image prompt, or of the next sample if both prompts
    are of the same one.
    """

    def __init__(self, codi, config):
        self.codi = codi

    def generate(self, variables, outputs, prompts, n, key):
        banks = [take(self.codi, make_source(source), range(n)) for source in self.sources]
        if not prompts:
            shift = (len(outputs) == 1) * self.codi.order(self.codi.modalities).index(outputs[0])
            return {name: [banks[0].values[name][(i + shift) % n] for i in range(n)] for name in outputs}
        ((source, values),) = prompts.items()
        (bank,) = [b for b in banks if all(np.array_equal(x, y) for x, y in zip(b.values[source], values, strict=True))]
        return {name: [*bank.values[name][:-1], ""] if name == "text" else bank.values[name] for name in outputs}

    def prompts(self, variables, values):
        return {name: np.arange(len(raw)) for name, raw in values.items()}

    def latents(self, variables, outputs, prompts, n, key, weights):
        assert all(w.shape == (n,) for w in weights.values())
        text, image = prompts["text"], prompts["image"]
        if np.array_equal(text, image):
            image = image + 1
        return dict.fromkeys(outputs, np.where(weights["text"] > 0.45, text, image))

    def decode(self, variables, latents):
        bank = take(self.codi, make_source(self.sources[0]), range(1 + max(map(max, latents.values()))))
        return {name: [bank.values[name][i] for i in index] for name, index in latents.items()}


def reconstruct(generator, variables, values):
    """Lossless codecs, except for the last two captions."""
    return {name: [*raw[:-2], "", ""] if name == "text" else raw for name, raw in values.items()}


def replace_generator(monkeypatch, it):
    """Replaces the generator and the codecs of `evaluate`."""
    sources = [it.config.sources[s] for s in ("test_seen", "test_held_out")]
    monkeypatch.setattr(CopyingGenerator, "sources", sources, raising=False)
    monkeypatch.setattr(run, "Generator", CopyingGenerator)
    monkeypatch.setattr(run.roundtrip, "reconstruct", reconstruct)


@pytest.fixture
def evaluated(tmp_path, variables, monkeypatch):
    it = demo_run(tmp_path)
    replace_generator(monkeypatch, it)
    (tmp_path / "stages" / "codec.text").mkdir(parents=True)
    (tmp_path / "stages" / "codec.text" / "cost.json").write_text('{"step": 2.0, "total": 2.5}')
    return it, run.evaluate(it.codi, it.config, variables, tmp_path)


def test_metrics_files_and_table(evaluated, variables, capsys):
    it, metrics = evaluated
    text = (it.workdir / "metrics.json").read_text()
    assert json.loads(text) == json.loads(json.dumps(metrics))
    assert list(metrics["matrix"]) == ["text->text", "text->image", "image->text", "image->image"]
    assert list(metrics["held_out"]) == ["text->image", "image->text"]
    cell = metrics["matrix"]["image->text"]
    assert cell["paired"] and not metrics["matrix"]["image->image"]["paired"]
    assert cell["factors"]["digit"]["accuracy"] == 1 - 1 / N and cell["factors"]["digit"]["ceiling"] == 1
    assert metrics["joint"]["text+image"]["trained"] and metrics["joint"]["text+image"]["n"] == N
    assert set(metrics["joint"]["text+image"]["digit"]) >= {
        *("joint", "independent", "shuffled", "chance", "entropy", "fidelity")
    }
    assert metrics["codec"]["text"]["factors"]["digit"]["accuracy"] == 1 - 2 / N
    image = metrics["codec"]["image"]["factors"]["digit"]
    assert image["accuracy"] == image["ceiling"] == metrics["real"]["image"]["digit"]
    assert metrics["real"]["text"]["digit"] == 1 and metrics["real"]["image"]["fidelity"] > 0
    sim = metrics["sim"]["text+image"]
    assert sim["n"] == N and sim["joint"] != sim["shuffled"] and -1 <= sim["joint"] <= 1
    assert metrics["sync"] == metrics["memorisation"] == {}  # neither audio nor video, and no neighbours
    assert set(metrics["diversity"]["image"]) == {"text->image", "independent", "text+image"}
    assert metrics["diversity"]["text"]["text+image"]["n"] == N
    assert metrics["objectives"] == ["bridging", "codec", "latent_alignment", "ldm", "parts"]

    assert metrics["parts"] == "all" and (metrics["split"], metrics["seed"], metrics["training_seed"]) == ("test", 0, 0)

    cost = json.loads((it.workdir / "cost.json").read_text())
    assert cost["stages"] == {"codec.text": {"step": 2.0, "total": 2.5}}
    assert cost["evaluate"]["peak_memory_bytes"] > 2**20
    assert cost["evaluate"]["total"] > 0 and cost["evaluate"]["core_seconds"] > 0
    assert "total" not in cost  # stages may run in parallel, so their sum is not a wall time
    assert "seconds" not in text and "memory" not in text

    lines = run.table(metrics).splitlines()
    assert any(line.split()[:3] == ["text", "digit", "0.750"] for line in lines)
    assert any(line.split()[:4] == ["image->text", "yes", "digit", "0.875"] for line in lines)
    assert any(line.startswith("text+image") for line in lines)

    before = {name: (it.workdir / name).read_bytes() for name in ("metrics.json", "samples.npz")}
    run.evaluate(it.codi, it.config, variables, it.workdir)
    assert {name: (it.workdir / name).read_bytes() for name in before} == before
    assert "15/15  pretrained judges" in capsys.readouterr().out


def test_every_set_of_prompts_to_every_set_of_outputs(evaluated):
    it, metrics = evaluated
    sets = ("text", "image", "text+image")
    table = metrics["combinations"]
    assert list(table) == [f"{a}->{b}" for b in sets for a in sets]
    truth = take(it.codi, make_source(it.config.sources["test_seen"]), range(N + 1)).factors
    truth = {factor: truth[factor] for factor in FACTORS}  # without the moment
    of_next = {f: float(np.mean(x[:-1] == x[1:])) for f, x in truth.items()}
    for cell in ("text->text", "text+image->text"):
        assert table[cell]["n"] == N
        assert {f: table[cell][f] for f in truth} == {f: {"text": 1.0} for f in truth}
    # An image carries neither motion nor voice, and the output is the next sample here.
    assert set(table["image->text"]) == {"n", "digit", "colour"}
    assert table["image->text+image"]["colour"]["text"] == pytest.approx(of_next["colour"])
    assert set(table["text->image"]) == {"n", "digit", "colour"}
    with np.load(it.workdir / "samples.npz", allow_pickle=False) as file:
        saved = paths.nest(dict(file))["combinations"]
    assert set(saved) == set(table)
    cell = saved["text+image->text+image"]
    assert cell["values"]["image"].shape == (N, 32, 32, 3) and cell["values"]["text"].shape == (N,)
    np.testing.assert_array_equal(cell["read"]["text"]["digit"], truth["digit"][:-1])
    mean = metrics["combinations_mean"]
    assert (mean["cells"], mean["n"]) == (9, N) and mean["clusters"] <= N
    assert mean["digit"] == pytest.approx(
        np.mean([np.mean(list(row["digit"].values())) for row in table.values()]), abs=1e-4
    )
    assert 0 <= mean["interval"][0] < mean["digit"] < mean["interval"][1] <= 1
    lines = run.table(metrics)
    assert f"Every set of prompts to every set of outputs: 9 cells, n = {N} each" in lines
    assert f"95 % {mean['interval'][0]:.3f}-{mean['interval'][1]:.3f} ({mean['clusters']} clusters); quantiles" in lines


def test_intervals_have_the_glyphs_of_prompts_as_clusters(evaluated):
    it, metrics = evaluated
    with np.load(it.workdir / "samples.npz", allow_pickle=False) as file:
        instances = paths.nest(dict(file))["real"]["seen"]["instances"]
    assert list(instances) == ["glyph"] and instances["glyph"].shape == (N,)
    glyphs = len(set(instances["glyph"].tolist()))
    for direction, clusters in (("text->image", N), ("image->text", glyphs), ("image->image", glyphs)):
        row = metrics["matrix"][direction]["factors"]["digit"]
        assert row["clusters"] == clusters and 1 <= row["n_effective"] <= N
    right = np.arange(N) < N - 1  # the last caption is empty
    expected = proportion_interval(right, [instances["glyph"]])
    assert metrics["matrix"]["image->text"]["all"]["interval"] == [round(x, 4) for x in expected.interval]
    assert metrics["joint"]["text+image"]["digit"]["clusters"] == N


def test_metrics_say_which_wordings_the_prompts_have(tmp_path, variables, monkeypatch, evaluated):
    _, metrics = evaluated
    assert metrics["wordings"] == "unseen" and "unseen test samples, unseen wordings" in run.table(metrics)
    it = demo_run(tmp_path, combinations=0)
    it.config.sources["test_held_out"] = {**it.config.sources["test_held_out"], "wordings": "trained"}
    replace_generator(monkeypatch, it)
    assert run.evaluate(it.codi, it.config, variables, tmp_path)["wordings"] == "trained"


def test_outside_judges_come_first_in_the_table(tmp_path, variables, monkeypatch):
    """A network that reads every image as a five."""
    monkeypatch.setattr(
        run.outside.pretrained,
        "make_readers",
        lambda codi, values: ({"image": lambda images: np.full(len(images), 5)}, {"image": "network"}),
    )
    it = demo_run(tmp_path, combinations=0, pretrained=6)
    replace_generator(monkeypatch, it)
    metrics = run.evaluate(it.codi, it.config, variables, tmp_path)
    truth = take(it.codi, make_source(it.config.sources["test_seen"]), range(6)).factors["digit"]
    row = metrics["pretrained"]["matrix"]["text->image"]["factors"]["digit"]
    assert row["accuracy"] == row["ceiling"] == round(float((truth == 5).mean()), 4)
    assert set(metrics["pretrained"]["held_out"]) == {"text->image", "image->text"}
    lines = [line.split() for line in run.table(metrics).splitlines()]
    head = next(line for line in lines if line[:1] == ["direction"])
    assert head[3:11] == ["outside", "ceiling", "of", "ceiling", "95", "%", "shuffled", "n"] and head[11] == "packaged"
    cells = next(line for line in lines if line[:3] == ["image->text", "yes", "digit"])
    outer = metrics["pretrained"]["matrix"]["image->text"]["factors"]["digit"]
    inner = metrics["matrix"]["image->text"]["factors"]["digit"]
    assert cells[3] == f"{outer['accuracy']:.3f}" and cells[8] == "6" and cells[9] == f"{inner['accuracy']:.3f}"
    assert any(line[:1] == ["outputs"] and line[3] == "outside" and "packaged" in line for line in lines)
    first = run.table(metrics).splitlines()[0]
    assert first.endswith("n = 6 (text: words of the caption; image: network)")


def test_the_mix_curve_without_combinations(tmp_path, variables, monkeypatch):
    it = demo_run(tmp_path, combinations=0, n=25, mixes=("text|image->text",))
    replace_generator(monkeypatch, it)
    metrics = run.evaluate(it.codi, it.config, variables, tmp_path)
    assert not metrics.get("combinations") and metrics["matrix"]
    curve = metrics["mix"]["text|image->text"]
    assert curve["n"] == 2 and curve["weights"][:3] == [0.0, 0.1, 0.2]
    assert curve["digit"] == {"text": [1.0] * 6 + [0.0] * 5, "image": [0.0] * 6 + [1.0] * 5}
    assert "Every set of prompts" not in run.table(metrics)


def test_parts_have_the_numbers_of_the_whole_evaluation(evaluated, variables, tmp_path, capsys):
    it, whole = evaluated
    measured = ("real", "codec", "matrix", "combinations", "held_out", "mix", "joint", "sim", "diversity", "pretrained")
    for parts, keys, total in (
        (("joint",), {"joint", "sim"}, 4),
        (("directions", "real", "pretrained"), {"matrix", "real", "pretrained"}, 6),
        (("codec", "held_out", "combinations"), {"codec", "held_out", "combinations"}, 6),
    ):
        capsys.readouterr()
        metrics = run.evaluate(it.codi, it.config, variables, tmp_path / parts[0], Scope(parts=parts), it.workdir)
        assert {key for key in measured if metrics[key]} == keys
        assert all(metrics[key] == whole[key] for key in keys - {"pretrained"})
        assert set(metrics["parts"]) == set(parts) and f"evaluate  {total}/{total}  " in capsys.readouterr().out
        saved = json.loads((tmp_path / parts[0] / "metrics.json").read_text())
        assert saved == json.loads(json.dumps(metrics)) and in_order(saved).keys() == metrics.keys()
        assert run.table(metrics) and compare.table({"whole": whole, "part": metrics})
        assert run.make_verdict(metrics, WITH_FLOORS) is None
        assert json.loads((tmp_path / parts[0] / "cost.json").read_text())["stages"]
    assert metrics["evaluate"]["pretrained"] == 0 and whole["evaluate"]["pretrained"] == 256
    assert run.make_verdict(whole, WITH_FLOORS) is not None
    assert json.loads((it.workdir / "metrics.json").read_text()) == json.loads(json.dumps(whole))


def test_neighbours_in_the_training_samples(tmp_path, variables, monkeypatch, capsys):
    it = demo_run(tmp_path, combinations=0, neighbours=32, pretrained=0)
    replace_generator(monkeypatch, it)
    metrics = run.evaluate(it.codi, it.config, variables, tmp_path)
    memory = metrics["memorisation"]
    assert memory["image"]["training"] == memory["text"]["training"] == 32
    rows = memory["image"]["outputs"]
    assert set(rows) == {"real", "codec", "fresh", "independent", "text->image", "text+image"}
    assert rows["real"] == rows["codec"] == rows["text->image"] == rows["text+image"] and rows["real"]["ratio"] == 1
    assert memory["text"]["outputs"]["real"]["verbatim"] == 0
    assert "13/13  neighbours of image  32 training samples" in capsys.readouterr().out
    table = run.table(metrics)
    assert any(
        line.split()[:4] == ["image", "fresh", f"{rows['fresh']['median']:.3f}", f"{rows['fresh']['ratio']:.3f}"]
        for line in table.splitlines()
    )
    assert any(line.split()[:2] == ["text", "validation"] for line in table.splitlines())


def test_the_saved_samples_can_be_read_again(evaluated):
    it, metrics = evaluated
    with np.load(it.workdir / "samples.npz", allow_pickle=False) as file:
        samples = paths.nest(dict(file))
    truth = samples["real"]["held_out"]["factors"]
    assert samples["codec"]["text"]["values"][-1] == "" and samples["codec"]["text"]["read"]["digit"][-1] == UNREAD
    cell = samples["held_out"]["image->text"]
    digits = [digit_world.parse(caption)["digit"] for caption in cell["values"]]
    assert (
        np.mean([d == t for d, t in zip(digits, truth["digit"], strict=True)])
        == (metrics["held_out"]["image->text"]["factors"]["digit"]["accuracy"])
    )
    assert cell["read"]["digit"].tolist() == [UNREAD if d is None else d for d in digits]
    assert samples["joint"]["text+image"]["values"]["image"].shape == (N, 32, 32, 3)
    assert samples["real"]["seen"]["values"]["image"].dtype == np.uint8
    colours = digit_world.factors.held_out_colour
    assert all(colours(d) == c for d, c in zip(truth["digit"], truth["colour"], strict=True))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"seen": "tset"}, "no source 'tset'"),
        ({"reference": 1000}, "1008 samples of 'test_seen' are required, it has 64"),
        ({"n": 1}, "n >= 4"),
        ({"mixes": ("text|image->text",)}, "mixes: a curve needs n >= 11, got 8"),
        ({"factors": ("colour",)}, r"config\.evaluate\.factors: 'digit', which every modality shows, must be one"),
        ({"neighbours": -1}, r"config\.evaluate\.neighbours: -1 is negative; 0 skips it"),
        ({"combinations": N + 1}, "combinations: 9 is not between 0 and n = 8"),
    ],
)
def test_an_invalid_config_is_an_error(tmp_path, variables, change, message):
    it = demo_run(tmp_path, **change)
    with pytest.raises(ConfigError, match=message):
        run.evaluate(it.codi, it.config, variables, tmp_path)
    assert not (tmp_path / "metrics.json").exists()


def test_samples_without_factors_are_an_error(tmp_path, variables):
    """As those of a user, which cannot be judged."""
    np.savez(tmp_path / "mine.npz", text=np.zeros(64))
    it = demo_run(tmp_path)
    it.config.sources["test_seen"] = {"name": "arrays", "path": str(tmp_path / "mine.npz")}
    with pytest.raises(ConfigError, match=r"samples of 'test_seen' have no factors\. evaluate reads the factors of"):
        run.evaluate(it.codi, it.config, variables, tmp_path)


def test_an_unfinished_run_is_an_error_that_names_the_missing_component(tmp_path, variables):
    it = demo_run(tmp_path)
    del variables["params"]["text_unet"]
    with pytest.raises(ConfigError, match="no finished stage has trained text_unet"):
        run.evaluate(it.codi, it.config, variables, tmp_path)


def test_a_missing_package_of_judges_is_an_error(tmp_path, variables):
    it = demo_run(tmp_path)
    it.config.evaluate["judges"] = "smell_world"
    with pytest.raises(ConfigError, match="no packaged model 'smell_world'; there is digit_world"):
        run.evaluate(it.codi, it.config, variables, tmp_path)
    it.config.evaluate["judges"] = str(tmp_path)
    with pytest.raises(ConfigError, match=r"config\.json: there is no such file; write it again"):
        run.evaluate(it.codi, it.config, variables, tmp_path)
