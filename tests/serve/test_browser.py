"""The page in a real browser, at the width of a desktop and of a phone; the pipeline behind it computes nothing."""

import base64
import importlib.util
import io
import json
import urllib.error
import urllib.parse
import urllib.request
import zipfile

import numpy as np
import pytest
from PIL import Image

from benchmarks.serve import serving
from codi_jax.serve.setting import Setting, Use, from_json, to_query
from tests.serve.browser import CHROMIUM, DESKTOP, PHONE, Browser

needed = {"gradio": importlib.util.find_spec("gradio"), "chromium": CHROMIUM}
missing = [name for name, found in needed.items() if not found]
pytestmark = pytest.mark.skipif(bool(missing), reason=f"needs {' and '.join(missing)}")

LINK = "document.querySelector('#shown a.download')?.href"  # another for every result


@pytest.fixture(scope="module")
def url():
    with serving("-m", "tests.serve.served", "--seconds=0.05") as (_, address):
        assert address.startswith("http://127.0.0.1:")
        yield address


@pytest.fixture(scope="module")
def browser(url, tmp_path_factory):
    made = Browser(tmp_path_factory.mktemp("browser"))
    yield made
    made.close()


@pytest.fixture
def page(url, browser):
    """A page that is freshly opened."""
    browser.events.clear()
    browser.open(url)
    browser.until("document.querySelector('#value-text textarea')")
    return browser


def generate(page, words=None):
    if words:
        page.type("#value-text textarea", words)
    before = page.run(LINK) or ""
    page.click("#generate")
    page.until(f"{LINK} && {LINK} != '{before}'")


def download(page):
    """The files of the result that is shown."""
    href = page.run(LINK)
    text = "btoa([...new Uint8Array(b)].map(c => String.fromCharCode(c)).join(''))"
    data = page.run(f"fetch('{href}').then(r => r.arrayBuffer()).then(b => {text})")
    with zipfile.ZipFile(io.BytesIO(base64.b64decode(data))) as file:
        return {name: file.read(name) for name in file.namelist()}


def test_a_text_becomes_outputs_that_play_and_are_downloaded(page):
    generate(page, "a red seven")
    assert page.run("document.querySelectorAll('#shown audio').length") == 1
    assert page.run("[...document.querySelectorAll('#shown img')].every(e => e.naturalWidth > 0)")
    files = download(page)
    assert sorted(files) == ["audio_0.wav", "image_0.png", "settings.json", "video_0.mp4"]
    setting = from_json(files["settings.json"].decode())
    assert setting.given["text"].text == "a red seven" and setting.to == ("image", "audio", "video")
    with pytest.raises(urllib.error.HTTPError, match="404"):  # without the cookie of this browser
        urllib.request.urlopen(page.run(LINK))


def test_a_link_sets_the_controls(url, page):
    setting = Setting(("image",), {"text": Use(text="ein rotes Ü"), "audio": Use("whole")}, {"image": 5.5}, 9, 77, 2)
    page.open(f"{url}?{to_query(setting)}")
    page.until("document.querySelector('#value-text textarea')?.value == 'ein rotes Ü'")
    page.until("document.querySelector('#status').innerText.includes('This link used files of audio')")
    assert page.run("document.querySelector('#seed input').value") == "77"
    assert page.run("document.querySelector('#steps input[type=number]').value") == "9"
    generate(page)
    link = page.run("document.querySelector('#link textarea').value")
    assert link.startswith(url)
    assert urllib.parse.urlsplit(link).query == to_query(
        Setting(("image",), {"text": Use(text="ein rotes Ü")}, {"image": 5.5}, 9, 77, 2)
    )


def test_what_is_refused_says_why(url, page):
    page.open(f"{url}?to=picture")
    page.until("document.querySelector('#status .error')")
    assert "no modality 'picture'" in page.text("#status")


def test_an_output_is_used_as_a_prompt_and_history_is_ones_own(url, page, tmp_path):
    generate(page, "a green two")
    first = download(page)
    page.click("#again")
    page.until("document.querySelector('#status').innerText.includes('is what is given as image now')")
    page.click("#given-image button")
    page.until("document.querySelector('#value-image canvas')")
    generate(page)
    files = download(page)
    assert files["given_image.png"] and from_json(files["settings.json"].decode()).given["image"].role == "prompt"
    pixels = [np.asarray(Image.open(io.BytesIO(data))) for data in (first["image_0.png"], files["given_image.png"])]
    np.testing.assert_array_equal(*pixels)
    assert "a green two" in page.run("document.querySelector('#past input').value")
    other = Browser(tmp_path)
    try:
        other.open(url)
        other.until("document.querySelector('#past input')")
        assert other.run("document.querySelector('#past input').value") == ""
    finally:
        other.close()


def open_editor(page):
    page.click("#given-image button")
    page.until("document.querySelector('#value-image canvas')")
    page.run("new Promise(r => setTimeout(r, 1000))")  # it draws itself


def give_red(page, folder):
    """Uploads a red image."""
    Image.new("RGB", (64, 64), "red").save(folder / "red.png")
    open_editor(page)
    page.upload("#value-image input[type=file]", folder / "red.png")
    page.until("!document.querySelector('#value-image').innerText.includes('Upload an image')")
    page.run("new Promise(r => setTimeout(r, 1000))")


def test_an_image_is_uploaded_and_read(page, tmp_path):
    give_red(page, tmp_path)
    generate(page)
    image = np.asarray(Image.open(io.BytesIO(download(page)["given_image.png"])), np.float32)
    assert np.abs(image.reshape(-1, 3) - (255, 0, 0)).max() < 3


def paint(page):
    """Draws a line through the middle of the editor."""
    page.click("#value-image button[aria-label=Brush]")
    page.run("new Promise(r => setTimeout(r, 500))")
    page.run("document.querySelector('#value-image canvas').scrollIntoView({block: 'center'})")
    at = "document.querySelector('#value-image canvas').getBoundingClientRect()"
    box = page.run(f"(r => [r.x, r.y, r.width, r.height])({at})")
    x, y = box[0] + box[2] / 2, box[1] + box[3] / 2
    page.drag(x - 60, y, x + 60, y)
    page.run("new Promise(r => setTimeout(r, 500))")


def test_what_is_drawn_is_a_prompt_and_an_editor_that_was_opened_alone_is_none(page):
    open_editor(page)
    generate(page)
    assert "given_image.png" not in download(page)
    paint(page)
    generate(page)
    image = np.asarray(Image.open(io.BytesIO(download(page)["given_image.png"])))
    assert 0.01 < (image.min(-1) < 200).mean() < 0.5


def test_what_is_not_painted_over_is_kept(page, tmp_path):
    give_red(page, tmp_path)
    page.click("#role-image input[value=part]")
    page.click("#generate")
    page.until("document.querySelector('#status .error')")
    assert page.text("#status") == "image: say which part is kept, or paint over what is generated"
    paint(page)
    generate(page)
    files = download(page)
    assert from_json(files["settings.json"].decode()).given["image"].role == "part"
    image = np.asarray(Image.open(io.BytesIO(files["given_image.png"])), np.float32)
    assert np.abs(image.reshape(-1, 3) - (255, 0, 0)).max() < 3


def test_nothing_is_asked_of_others_or_refused_by_the_gate(url, page):
    generate(page, "a red seven")
    assert {address for address in page.requests() if not address.startswith(url)} == set()
    assert [(status, address) for status, address in page.answers() if status >= 400] == []


def test_the_page_tells_no_path(url, page):
    generate(page, "a red seven")
    config = page.run("fetch('config').then(r => r.text())")
    assert json.loads(config)["components"] and "/tmp/" not in config and "codi-jax-serve" not in config
    assert "/tmp/" not in page.run("document.documentElement.outerHTML")


@pytest.mark.parametrize("size", [DESKTOP, PHONE], ids=["desktop", "phone"])
def test_nothing_is_wider_than_the_page(page, size):
    page.resize(size)
    try:
        generate(page, "a red seven")
        assert page.run("document.documentElement.scrollWidth") <= size[0]
        beyond = f"e => e.offsetParent && e.getBoundingClientRect().right > {size[0]} + 1"
        every = "[...document.querySelectorAll('button, input, textarea, img, audio')]"
        assert page.run(f"{every}.filter({beyond}).length") == 0
    finally:
        page.resize(DESKTOP)
