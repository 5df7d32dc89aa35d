"""At the width of a phone only tables of numbers are wider than the page."""

import html
import json
import re
import subprocess
from importlib import resources
from types import SimpleNamespace

import numpy as np
import pytest

from codi_jax.digit_world.benchmark.combinations import subsets
from codi_jax.digit_world.report import gallery, numbers, sets
from codi_jax.report.markup import Html, el, join
from tests.serve.browser import CHROMIUM

PHONE = 390  # px
NAMES = ("text", "image", "audio", "video")
STYLE = resources.files("codi_jax.report").joinpath("style.css").read_text()


def on_a_phone(selector, name):
    """A horizontal length in px that is declared for a selector, for narrow screens or else for all."""
    blocks = re.split(r"@media \(max-width: (\d+)px\)", STYLE)
    rules = [block for width, block in zip(blocks[1::2], blocks[2::2], strict=True) if int(width) >= PHONE]
    for block in [*reversed(rules), blocks[0]]:
        for body in re.findall(r"(?:^|[\n{}])\s*" + re.escape(selector) + r" \{([^}]*)\}", block):
            if match := re.search(rf"(?<![-\w]){name}: ([^;]+);", body + ";"):
                return float(match[1].split()[:2][-1].removesuffix("px"))
    return 0.0


def test_the_map_of_all_combinations_fits():
    columns = len(subsets(NAMES))
    assert columns**2 == 225
    size = on_a_phone(".heat.small td", "font-size")
    cell = max(3 * 0.64 * size + 2 * on_a_phone(".heat.small td", "padding"), on_a_phone(".heat.small td", "min-width"))
    spacing = on_a_phone(".heat.small", "border-spacing")
    heading = 8 * 0.64 * on_a_phone(".heat.small th", "font-size")  # the first column, "in \ out"
    assert size >= 9 and heading + columns * (cell + spacing) <= PHONE - 2 * on_a_phone("main", "padding")


def test_a_gallery_has_no_minimum_width():
    assert on_a_phone(".gallery", "min-width") == 0


def page():
    rng = np.random.default_rng(0)
    names = ["+".join(s) for s in subsets(NAMES)]
    table = {f"{a}->{b}": {"n": 8, "digit": {m: rng.random() for m in b.split("+")}} for a in names for b in names}
    row = {"accuracy": 1.0, "interval": [0.9, 1.0], "ceiling": 1.0, "chance": 0.1, "shuffled": 0.1}
    matrix = {f"{a}->{b}": {"paired": False, "factors": {"digit": row}, "all": row} for a in NAMES for b in NAMES}
    rates = {"joint": 1.0, "independent": 0.1, "shuffled": 0.1, "chance": 0.5}
    joint = {s: {"trained": False, "digit": rates, "motion": rates} for s in names[4:]}
    show = {
        "text": lambda x: "<span class='text'>a painted three going down and a high voice</span>",
        "image": lambda x: "<img src='data:image/gif;base64,R0lGODlhAQABAAAAACw='>",
        "audio": lambda x: "<audio controls></audio>",
    }
    text, image, audio = (SimpleNamespace(name=name, html=html_) for name, html_ in show.items())
    values = dict.fromkeys(show, np.arange(8))
    generated = {"values": np.arange(8), "read": {"digit": np.full(8, -1), "colour": np.arange(8) % 6}}
    real = {"values": values, "factors": {"digit": np.arange(8), "colour": np.arange(8) % 6}}
    readings = {name: {"digit": np.arange(8)} for name in show}
    together = {"values": values, "read": readings}
    body = (
        numbers.means({"matrix": matrix, "held_out": {}}),
        gallery.direction(text, image, real, generated, "x"),
        gallery.combination([text, audio], [image], values, {"image": np.arange(8)}, "x"),
        gallery.together([text, image, audio], together, together, "digit", "x"),
        numbers.heat_maps(NAMES, matrix, "x", {name: {"n": 8, **cell} for name, cell in matrix.items()}),
        numbers.combination_map(NAMES, table, "x"),
        sets.joint_bars(joint, "x"),
    )
    return join([Html("<!doctype html>"), el("html", el("style", Html(STYLE)), el("main", body))])


# Runs in a frame of a phone's width, since the browser window has a minimum width.
MEASURE = """
<iframe id=f style="border:0;width:%dpx;height:20000px" srcdoc="%s"></iframe><pre id=out></pre>
<script>f.onload = () => {
  const d = f.contentDocument, wide = e => e.scrollWidth > e.clientWidth + 1;
  const box = e => e.getBoundingClientRect();
  const over = (a, b) => a.left < b.right - 1 && b.left < a.right - 1 && a.top < b.bottom - 1 && b.top < a.bottom - 1;
  const clash = s => { const t = [...s.querySelectorAll('text')];
    return t.some((a, i) => t.slice(i + 1).some(b => over(box(a), box(b)))); };
  out.textContent = JSON.stringify({
    page: d.documentElement.scrollWidth,
    cut: [...d.querySelectorAll('.scroll')].filter(wide).map(e => e.innerHTML.slice(0, 60)),
    cells: [...d.querySelectorAll('.heat td, .media')].filter(wide).length,
    scaled: [...d.querySelectorAll('svg')].filter(s => box(s).width < s.viewBox.baseVal.width - 1).length,
    clash: [...d.querySelectorAll('svg')].filter(clash).length,
    plots: d.querySelectorAll('svg').length,
    players: [...d.querySelectorAll('audio')].filter(e => e.offsetWidth < 100).length,
  }); }</script>"""


@pytest.mark.skipif(CHROMIUM is None, reason="needs chromium")
def test_nothing_is_cut_off_at_the_width_of_a_phone(tmp_path):
    (tmp_path / "frame.html").write_text(MEASURE % (PHONE, html.escape(page(), quote=True)), encoding="utf-8")
    command = [
        *(CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking"),
        *("--disable-component-update", "--disable-sync", f"--user-data-dir={tmp_path / 'profile'}"),
        *("--virtual-time-budget=10000", "--dump-dom", (tmp_path / "frame.html").as_uri()),
    ]
    dom = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True).stdout
    result = json.loads(html.unescape(re.search(r'<pre id="out">(.*?)</pre>', dom)[1]))
    plots = result.pop("plots")
    assert result == {"page": PHONE, "cut": [], "cells": 0, "scaled": 0, "clash": 0, "players": 0} and plots == 11
