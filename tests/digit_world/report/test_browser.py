"""A whole report in Chromium: at the width of a phone, without network, with a keyboard, in the dark."""

import pytest

from codi_jax.digit_world.report.page import write
from tests.digit_world.report.test_page import evaluated
from tests.serve.browser import CHROMIUM, DESKTOP, PHONE, Browser

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="needs chromium")


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    folder = tmp_path_factory.mktemp("report")
    evaluated(folder)
    made = Browser(folder)
    made.address = write(folder).as_uri()
    yield made
    made.close()


WIDE = """[...document.querySelectorAll('main *')].filter(e => e.getBoundingClientRect().right > innerWidth + 1
  && !e.closest('.scroll, nav, pre, svg')).map(e => e.outerHTML.slice(0, 80))"""


@pytest.mark.parametrize("size", [PHONE, DESKTOP, (320, 640)])
def test_the_page_does_not_scroll_sideways(browser, size):
    browser.resize(size)
    browser.open(browser.address, "#samples")
    browser.run("document.querySelectorAll('details').forEach(e => e.open = true)")
    assert browser.run("document.documentElement.scrollWidth") <= size[0]
    assert browser.run(WIDE) == []


def test_everything_that_scrolls_takes_the_focus(browser):
    browser.resize(PHONE)
    browser.open(browser.address, "#samples")
    browser.run("document.querySelectorAll('details').forEach(e => e.open = true)")
    scrolls = "e => e.scrollWidth > e.clientWidth + 1 && e.tabIndex < 0"
    assert browser.run(f"[...document.querySelectorAll('.scroll, pre')].filter({scrolls}).length") == 0
    assert browser.run("[...document.querySelectorAll('.scroll')].some(e => e.scrollWidth > e.clientWidth + 1)")


def test_nothing_is_asked_of_the_network_and_nothing_goes_wrong(browser):
    browser.events.clear()
    browser.open(browser.address, "#samples")
    assert browser.requests() == [browser.address]
    assert [e for e in browser.events if e["method"] in ("Log.entryAdded", "Runtime.exceptionThrown")] == []


def test_the_first_key_leads_past_the_navigation(browser):
    browser.resize(DESKTOP)
    browser.open(browser.address, "#samples")

    def press(key, code):
        for kind in ("keyDown", "keyUp"):
            text = {"text": "\r"} if key == "Enter" and kind == "keyDown" else {}
            browser.call("Input.dispatchKeyEvent", type=kind, key=key, code=key, windowsVirtualKeyCode=code, **text)

    press("Tab", 9)
    assert browser.run("document.activeElement.className") == "skip"
    assert browser.run("document.activeElement.getBoundingClientRect().left >= 0")
    assert browser.run("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    press("Enter", 13)
    browser.until("document.activeElement.id == 'main'")
    press("Tab", 9)
    assert browser.run("!!document.activeElement.closest('main .found')")  # the first sentence


CONTRAST = """(() => {
  const parse = c => c.match(/[\\d.]+/g).map(Number);
  const level = v => (v /= 255) <= .04045 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4;
  const light = ([r, g, b]) => .2126 * level(r) + .7152 * level(g) + .0722 * level(b);
  const behind = e => { for (; e; e = e.parentElement) { const c = parse(getComputedStyle(e).backgroundColor);
    if (c.length < 4 || c[3] > 0) return c; } return [255, 255, 255]; };
  const low = new Set();
  for (const e of document.querySelectorAll('main *, nav a')) {
    if (e.closest('svg, audio') || ![...e.childNodes].some(n => n.nodeType == 3 && n.data.trim())) continue;
    const [a, b] = [light(parse(getComputedStyle(e).color)), light(behind(e))].sort((x, y) => y - x);
    if ((a + .05) / (b + .05) < 4.5) low.add(`${e.className || e.tagName}: ${e.textContent.slice(0, 30)}`);
  }
  return [...low]; })()"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_all_text_has_enough_contrast(browser, scheme):
    browser.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
    browser.open(browser.address, "#samples")
    dark = browser.run("getComputedStyle(document.body).backgroundColor")
    assert (dark == "rgb(255, 255, 255)") == (scheme == "light")
    assert browser.run(CONTRAST) == []
