"""The page in a real browser, at the width of a desktop and of a phone."""

import importlib.util
import io
import urllib.parse
import urllib.request
import zipfile

import pytest

from codi_jax.serve.playground import Playground
from codi_jax.serve.setting import Setting, Use, from_json, to_query
from tests.serve.browser import CHROMIUM, DESKTOP, PHONE, Browser
from tests.serve.fake import FakePipe

needed = {"gradio": importlib.util.find_spec("gradio"), "chromium": CHROMIUM}
missing = [name for name, found in needed.items() if not found]
pytestmark = pytest.mark.skipif(bool(missing), reason=f"needs {', '.join(missing)}")


@pytest.fixture(scope="module")
def server():
    from codi_jax.serve.server import Server

    made = Server(Playground(FakePipe(), "model: fake"), port=0)
    made.start()
    yield made
    made.stop()


@pytest.fixture(scope="module")
def browser(server, tmp_path_factory):
    made = Browser(tmp_path_factory.mktemp("browser"))
    yield made
    made.close()


def generate(browser, words="a red seven"):
    browser.type("#value-text textarea", words)
    browser.click("#generate")
    browser.until("document.querySelector('#status').innerText.startsWith('Done')")


def test_a_text_becomes_outputs_that_play_and_are_downloaded(server, browser):
    browser.open(server.url)
    generate(browser)
    assert browser.run("document.querySelectorAll('#shown audio').length") == 1
    assert browser.run("[...document.querySelectorAll('#shown img')].every(e => e.naturalWidth > 0)")
    href = browser.run("document.querySelector('#shown a.download').href")
    data = browser.run(
        f"fetch('{href}').then(r => r.arrayBuffer()).then(b => btoa(String.fromCharCode(...new Uint8Array(b))))"
    )
    import base64

    with zipfile.ZipFile(io.BytesIO(base64.b64decode(data))) as file:
        setting = from_json(file.read("settings.json").decode())
        assert sorted(file.namelist()) == ["audio_0.wav", "image_0.png", "settings.json", "video_0.mp4"]
    assert setting.given["text"].text == "a red seven" and setting.to == ("image", "audio", "video")
    with pytest.raises(urllib.error.HTTPError, match="404"):  # without the cookie of this browser
        urllib.request.urlopen(href)


def test_a_link_sets_the_controls(server, browser):
    setting = Setting(("image",), {"text": Use(text="ein rotes Ü"), "audio": Use("whole")}, {"image": 5.5}, 9, 77, 2)
    browser.open(f"{server.url}?{to_query(setting)}")
    browser.until("document.querySelector('#value-text textarea').value == 'ein rotes Ü'")
    assert "This link used files of audio" in browser.text("#status")
    assert browser.run("document.querySelector('#seed input').value") == "77"
    assert browser.run("document.querySelector('#steps input[type=number]').value") == "9"
    browser.click("#generate")
    browser.until("document.querySelector('#status').innerText.startsWith('Done')")
    link = browser.run("document.querySelector('#link textarea').value")
    query = urllib.parse.urlsplit(link).query
    assert "image.guidance=5.5" in query and "seed=77" in query and "audio" not in query


def test_what_is_refused_says_why(server, browser):
    browser.open(f"{server.url}?to=picture")
    browser.until("document.querySelector('#status .error')")
    assert "no modality 'picture'" in browser.text("#status")


def test_an_output_is_used_as_a_prompt_and_history_is_ones_own(server, browser, tmp_path):
    browser.open(server.url)
    generate(browser, "a green two")
    browser.click("#again")
    browser.until("document.querySelector('#status').innerText.includes('is what is given as image now')")
    browser.click("#generate")
    browser.until("document.querySelector('#status').innerText.startsWith('Done')")
    prompts = server._play.pipe.calls[-1]["prompts"]
    assert sorted(prompts) == ["image", "text"] and prompts["image"].shape == (32, 32, 3)
    assert len(server._play.results._kept) > 1
    other = Browser(tmp_path)
    try:
        other.open(server.url)
        other.until("document.querySelector('#past input')")
        assert other.run("document.querySelector('#past input').value") == ""
        assert browser.run("document.querySelector('#past input').value").endswith("(seed 0)")
    finally:
        other.close()


def test_a_file_is_uploaded_drawn_over_and_kept_in_part(server, browser, tmp_path):
    from PIL import Image

    Image.new("RGB", (64, 64), "red").save(tmp_path / "red.png")
    browser.open(server.url)
    browser.run("document.querySelector('#given-image button').click()")
    browser.until("document.querySelector('#value-image input[type=file]')")
    browser.upload("#value-image input[type=file]", tmp_path / "red.png")
    browser.until("performance.getEntriesByType('resource').some(e => e.name.includes('upload'))")
    browser.run("new Promise(r => setTimeout(r, 1500))")
    browser.click("#generate")
    browser.until("document.querySelector('#status').innerText.startsWith('Done')")
    image = server._play.pipe.calls[-1]["prompts"]["image"]
    assert abs(image.reshape(-1, 3).mean(0) - (255, 0, 0)).max() < 3


def test_nothing_is_asked_of_others_or_refused_by_the_gate(server, browser):
    browser.open(server.url)
    generate(browser)
    assert {url for url in browser.requests() if not url.startswith(server.url)} == set()
    refused = [(status, url) for status, url in browser.answers() if status >= 400]
    assert refused == []


@pytest.mark.parametrize("size", [DESKTOP, PHONE], ids=["desktop", "phone"])
def test_nothing_is_wider_than_the_page(server, browser, size):
    browser.resize(size)
    try:
        browser.open(server.url)
        generate(browser)
        assert browser.run("document.documentElement.scrollWidth") <= size[0]
        beyond = f"e => e.offsetParent && e.getBoundingClientRect().right > {size[0]} + 1"
        every = "[...document.querySelectorAll('button, input, textarea, img, audio')]"
        assert browser.run(f"{every}.filter({beyond}).length") == 0
    finally:
        browser.resize(DESKTOP)
