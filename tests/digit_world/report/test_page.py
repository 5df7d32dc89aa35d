"""The report of a run: complete, self-contained, escaped."""

import base64
import importlib.util
import json
import re
from html.parser import HTMLParser
from io import BytesIO
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from codi_jax.config import ConfigError
from codi_jax.digit_world.report.gallery import direction
from codi_jax.digit_world.report.page import write
from codi_jax.parallel import paths
from codi_jax.report.media import MAX_BYTES
from codi_jax.train.recipe import save_config

ROOT = Path(__file__).parents[3]
N = 10
HOSTILE = '"><script src=//x.example></script>'


def cell(paired):
    row = {"accuracy": 0.9, "interval": [0.6, 0.98], "ceiling": 0.95, "chance": 0.1, "shuffled": 0.12}
    return {"n": N, "paired": paired, "all": row, "factors": {"digit": {**row, "accuracy": 0.8123}}, "free": {}}


def evaluated(workdir):
    """Writes the files of `train` and `evaluate` to a workdir, with made-up contents."""
    spec = importlib.util.spec_from_file_location("demo", ROOT / "configs" / "digit_world.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    save_config(module.get_config("tiny,modalities=text+image"), workdir)
    rng = np.random.default_rng(0)
    names = ("text", "image")
    values = {
        "text": np.array([f"a <b>red</b> seven & {HOSTILE}"] * N),
        "image": rng.integers(0, 256, (N, 32, 32, 3), dtype=np.uint8),
    }
    factors = {"digit": np.arange(N), "colour": np.zeros(N, np.int64)}
    read = {"digit": np.where(np.arange(N) == 1, -1, np.arange(N)), "colour": factors["colour"]}
    directions = {f"{a}->{b}": {"values": values[b], "read": read} for a in names for b in names}
    joint = {"values": values, "read": dict.fromkeys(names, read)}
    samples = {
        "real": {kind: {"values": values, "factors": factors} for kind in ("seen", "held_out")},
        **{"matrix": directions, "held_out": directions, "independent": joint, "joint": {"text+image": joint}},
    }
    np.savez(workdir / "samples.npz", **paths.flatten(samples))
    detail = {"entropy": 0.97, "entropy_independent": 0.99}
    coherence = {
        **{"joint": 0.91, "interval": [0.5, 0.99], "independent": 0.11, "shuffled": 0.1, "chance": 0.1},
        **{"entropy": 0.97, "fidelity": 3.25},
        "outputs": {"text": detail, "image": {**detail, "fidelity": 3.25, "fidelity_independent": 3.0}},
    }
    sets = ("text", "image", "text+image")
    metrics = {
        "n": N,
        "matrix": {name: cell(len(set(name.split("->"))) > 1) for name in directions},
        "held_out": {name: cell(True) for name in ("text->image", "image->text")},
        "joint": {"text+image": {"n": N, "trained": True, "digit": coherence}},
        "sim": {"text+image": {"n": N, "joint": 0.876, "independent": 0.123, "shuffled": 0.124}},
        "pretrained": {
            "n": 4,
            "judges": {"image": "network", "text": HOSTILE},
            "matrix": {d: {"accuracy": 0.765, "ceiling": 0.987} for d in ("text->image", "image->text")},
            "joint": {"text+image": {"joint": 0.654, "independent": 0.098}},
        },
        "combinations": {f"{a}->{b}": {"n": N, "digit": dict.fromkeys(b.split("+"), 0.5)} for a in sets for b in sets},
        "mix": {"text|image->image": {"n": N, "weights": [0, 1], "digit": {"text": [1, 0], "image": [0, 1]}}},
        "real": {"text": {"n": N, "fidelity": None}, "image": {"n": N, "fidelity": 1.5}},
    }
    (workdir / "metrics.json").write_text(json.dumps(metrics, sort_keys=True))
    stage = workdir / "stages" / "ldm.text"
    stage.mkdir(parents=True)
    lines = [{"step": 10 * i, "loss": 1 / (i + 1) if i != 3 else None} for i in range(9)]
    (stage / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    ldm = {"compile": 2.0, "step": 40.0, "total": 43.0, "core_seconds": 41.0, "sessions": [[7, 50]]}
    encode = {"encode": 4.0, "total": 4.0, "core_seconds": 3.0, "sessions": [[49, 53]]}
    cost = {
        "stages": {"encode.text+image": encode, "ldm.text": ldm},
        "evaluate": {"total": 20.0, "seconds": {}, "core_seconds": 30.0, "peak_memory_bytes": 3 << 29},
    }
    (workdir / "cost.json").write_text(json.dumps(cost))
    return values


class TagChecker(HTMLParser):
    """Checks that every element is closed, and collects what the page loads, its headings and its pictures."""

    def __init__(self):
        super().__init__()
        self.open, self.loads, self.links, self.tags = [], [], [], set()
        self.levels, self.names, self.unnamed, self.unscoped = [], set(), [], []

    def handle_starttag(self, tag, attrs):
        values = dict(attrs)
        self.tags.add(tag)
        self.names.add(values.get("id"))
        self.loads += [value for key, value in attrs if key in ("src", "srcset", "data", "poster")]
        self.links += [values["href"]] if "href" in values else []
        self.levels += [int(tag[1])] if re.fullmatch("h[1-6]", tag) else []
        text = {"img": "alt", "audio": "aria-label", "video": "aria-label"}.get(tag)
        self.unnamed += [attrs] if text and not values.get(text) else []
        self.unscoped += [attrs] if tag == "th" and "scope" not in values else []
        if tag not in ("meta", "img", "source"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def checked(html):
    parser = TagChecker()
    parser.feed(html)
    assert not parser.open
    return parser


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    folder = tmp_path_factory.mktemp("page")
    values = evaluated(folder)
    path = write(folder)
    assert path == folder / "report.html"
    return path.read_text(encoding="utf-8"), values


def test_the_page_is_balanced_and_loads_nothing(page):
    html, found = page[0], checked(page[0])
    assert found.loads and all(x.startswith("data:image/png;base64,") for x in found.loads)
    assert not found.tags & {"script", "link", "iframe", "object", "embed", "base"}
    assert not re.search(r"url\(|@import|https?://", html) and not re.search(r"<[^>]* on\w+=", html)
    assert len(html.encode()) < MAX_BYTES == 10_000_000


def test_the_page_can_be_read_without_eyes_and_used_without_a_mouse(page):
    html, found = page[0], checked(page[0])
    assert "img" in found.tags and not found.unnamed and not found.unscoped
    assert found.levels[0] == 1 and found.levels.count(1) == 1
    assert all(after <= before + 1 for before, after in pairwise(found.levels))
    assert found.links[0] == "#main" and '<html lang="en">' in html
    assert all(link.startswith("#") and link[1:] in found.names for link in found.links)
    assert all("tabindex" in box for box in re.findall(r"<div class=\"scroll\"[^>]*>(?=<table class=\"numbers)", html))
    for svg in re.findall(r"<svg.*?</svg>", html, re.S):
        assert re.search("<title>[^<]+</title>", svg) and 'role="img"' in svg[: svg.index(">")]
    for text in (
        "prompt image: zero, red",
        "generated image, read as no digit, red",
        "generated image, read as two, red",
    ):
        assert f'alt="{text}"' in html, text


def test_the_first_screen_has_what_the_model_is_and_its_best_and_worst(page):
    html = page[0]
    first = html[html.index("<header>") : html.index("</header>")]
    assert re.search(r"[\d,]+ parameters · \d+ stages trained in 46s", first) and "text or image or both" in first
    for part in (
        "What it does best",
        "What it does worst",
        "Best cases",
        "Worst cases",
        "chance 10",
        "prompts of other",
    ):
        assert part in first, part
    assert first.index('href="#together"') < first.index("What it does worst") < first.index('href="#held-out"')
    order = [html.index(f'id="{name}"') for name in ("matrix", "held-out", "together", "training", "samples")]
    assert order == sorted(order) and html.index("</header>") < order[0]


@pytest.fixture
def uncounted(monkeypatch):
    """Without counting the parameters, for which the model is traced."""
    monkeypatch.setattr("codi_jax.digit_world.report.page.parameters", lambda codi: "some parameters")


@pytest.mark.usefixtures("uncounted")
def test_a_large_page_has_fewer_samples(tmp_path, monkeypatch):
    evaluated(tmp_path)
    whole = write(tmp_path).read_text(encoding="utf-8")
    for limit in (len(whole) * 3 // 4, len(whole) // 2):
        monkeypatch.setattr("codi_jax.report.media.MAX_BYTES", limit)
        html = write(tmp_path).read_text(encoding="utf-8")
        assert len(html.encode()) <= limit and "The matrix" in html and "Worst cases" in html
        assert 0 < html.count("<img") < whole.count("<img")
        checked(html)


def test_captions_are_escaped_and_images_are_exact(page):
    html, values = page
    assert "a &lt;b&gt;red&lt;/b&gt; seven &amp; " in html and "<b>red</b>" not in html
    assert "script" in html and "<script" not in html
    images = {base64.b64decode(found) for found in re.findall(r"base64,([^\"]+)", html)}
    shown = [np.asarray(Image.open(BytesIO(image))) for image in images]
    assert any(np.array_equal(image, values["image"][0]) for image in shown)


def test_the_page_contains_the_metrics(page):
    html, _ = page
    for text in (
        "0.81",
        "0.812",
        "of 0.95",
        "0.91",
        "chance 0.10",
        "3.25",
        "1.50",
        "1m06s",
        "1m14s",
        "1.5 GiB",
        "no digit",
    ):
        assert text in html, text
    for text in (
        "0.876",
        "0.123",
        "0.124",
        "image: network",
        "0.765",
        "0.987",
        "0.654",
        "0.098",
        "n = 4 (text: &quot;&gt;&lt;script",
    ):
        assert text in html, text
    assert html.count('class="wrong"') and html.count("loss of ldm.text") == 1


def test_the_page_does_not_depend_on_the_order_of_the_file(page):
    html, _ = page
    assert "trained in 46s (44s of core time)" in html
    assert "text against image → image" in html
    matrix = html[html.index("All metrics of this matrix") :]
    assert 0 < matrix.index("text → image") < matrix.index("image → text")
    assert "text + image → text 0.50, image 0.50 (n = 10)" in html


def test_numbers_of_outside_judges_come_first(page):
    """Those of the fixture are of the format without intervals, which older metrics.json have."""
    html, _ = page
    head = ["direction", "factor", "outside judge", "ceiling", "of ceiling", "95 % interval", "n", "packaged judge"]
    assert "".join(f'<th scope="col">{cell}</th>' for cell in head) in html
    row = ["digit", "0.765", "0.987", "0.775", "–", "4", "0.812", "0.600 to 0.980", "0.950", "0.855", "0.100", "0.120"]
    assert "".join(f"<td>{cell}</td>" for cell in row) in html
    assert re.search(r"<b>0\.7[67]</b><small>of 0\.99</small><div><small>\(0\.81\)</small>", html)
    assert "outside judges; packaged 0.81; ceiling 0.99" in html
    assert re.search(
        r"<b>0\.654</b> \(0\.91\)</span></td><td>–</td><td>0\.098</td><td>–</td><td>–</td><td>4</td>", html
    )
    assert "<td>0.654</td><td>–</td><td>0.098</td><td>–</td><td>4</td><td>0.910</td>" in html


def test_an_output_is_correct_if_the_factors_of_its_prompt_are():
    modality = lambda name: SimpleNamespace(name=name, html=str)  # noqa: E731
    real = {"values": dict.fromkeys(("image", "text"), np.arange(2)), "factors": {"digit": np.array([4, 5])}}
    real["factors"]["motion"] = np.array([0, 0])
    generated = {"values": np.arange(2), "read": {"digit": np.array([4, 4]), "motion": np.array([1, 0])}}
    from_image = direction(modality("image"), modality("text"), real, generated, "")
    assert "✓ four (right)" in from_image and "✗ four (left)" in from_image
    from_text = direction(modality("text"), modality("image"), real, generated, "")
    assert "✗ four, right" in from_text and "(" not in from_text


@pytest.mark.usefixtures("uncounted")
def test_a_part_of_an_evaluation_is_a_page_of_what_was_measured(tmp_path):
    evaluated(tmp_path)
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    nothing = {key: {} for key in ("real", "codec", "matrix", "held_out", "combinations", "mix", "sim", "pretrained")}
    (tmp_path / "metrics.json").write_text(json.dumps({**metrics, **nothing, "split": "val", "parts": ["joint"]}))
    html = write(tmp_path).read_text(encoding="utf-8")
    assert f"{N} validation samples per cell" in html and "Generated together" in html
    assert "The matrix" not in html and "Pretrained judges" not in html
    parts = {**metrics, **nothing, "joint": {}, "matrix": metrics["matrix"]}
    (tmp_path / "metrics.json").write_text(json.dumps(parts))
    html = write(tmp_path).read_text(encoding="utf-8")
    assert f"{N} test samples per cell" in html and "The matrix" in html and "Generated together" not in html
    checked(html)


def test_an_unevaluated_run_is_an_error(tmp_path):
    evaluated(tmp_path)
    (tmp_path / "samples.npz").unlink()
    with pytest.raises(ConfigError, match=r"no samples.npz; run `codi-jax evaluate` first"):
        write(tmp_path)
    (tmp_path / "metrics.json").write_text("{")
    with pytest.raises(ConfigError, match="are not readable"):
        write(tmp_path)
    assert not (tmp_path / "report.html").exists()
