"""Links of README and docs lead somewhere, on GitHub and on the site; every page is in the site's navigation."""

import re
import unicodedata
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = sorted(DOCS.rglob("*.md"))
DOCUMENTS = [*sorted(ROOT.glob("*.md")), *PAGES]
CODE = re.compile(r"^```.*?^```|^(?: {4}|\t).*$|`[^`\n]+`", re.DOTALL | re.MULTILINE)
LINK = re.compile(r"\[[^\]]*\]\(\s*<?([^)\s>]+)>?[^)]*\)|(?:src|href)=\"([^\"]+)\"")
ELSEWHERE = ("http://", "https://", "mailto:", "data:")

each_document = pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))


def links(text):
    """The targets of all links and images, without those in code. Code may be the text of a link."""
    kept = CODE.sub(lambda code: "" if "\n" in code[0] or code[0].startswith((" ", "\t")) else "code", text)
    return [a or b for a, b in LINK.findall(kept)]


def headings(text):
    """The headings of a document, as they are shown."""
    text = re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE)
    for heading in re.findall(r"^#{1,6} (.+?)(?: #+)?$", text, re.MULTILINE):
        yield re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).replace("`", "").replace("*", "")


def github(heading):
    """The anchor that GitHub makes of a heading."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def of_site(heading):
    """The anchor that Python-Markdown, and so the site, makes of it."""
    ascii_ = unicodedata.normalize("NFKD", heading).encode("ascii", "ignore").decode()
    return re.sub(r"[-\s]+", "-", re.sub(r"[^\w\s-]", "", ascii_).strip().lower())


def broken(path, text):
    """The links of a document at `path` that lead nowhere."""
    for link in links(text):
        if link.startswith(ELSEWHERE):
            continue
        name, _, anchor = link.partition("#")
        target = (path.parent / name) if name else path
        if (name and not target.exists()) or ROOT not in (target.resolve(), *target.resolve().parents):
            yield link
        elif anchor and target.suffix == ".md":
            of_target = list(headings(text if target == path else target.read_text(encoding="utf-8")))
            if not all(anchor in map(make, of_target) for make in (github, of_site)):
                yield link


@each_document
def test_links_lead_somewhere(path):
    assert not list(broken(path, path.read_text(encoding="utf-8")))


def test_this_finds_links_that_lead_nowhere():
    text = (
        "# A `b` – c\n[a](#a-b-c) [b](nowhere.md) `[c](code.md)` [d](data.md#nothing) ![e](absent.png) [`f`](lora.md)\n"
        "[g](https://example.org/x) [h](../../outside.md)\n```\n[i](code.md)\n```\n"
    )
    of_text = ["#a-b-c", "nowhere.md", "data.md#nothing", "absent.png", "../../outside.md"]  # GitHub: a-b--c
    assert list(broken(DOCS / "x.md", text)) == of_text
    assert list(broken(DOCS / "x.md", "## 1. Do it\n[a](#1-do-it) [b](data.md) [c](../README.md)")) == []


def navigation():
    """The pages that mkdocs.yml lists, in order. Its other lines need tags of Python, so it is not parsed as YAML."""
    nav = re.search(r"^nav:\n((?:[ -].*\n)+)", (ROOT / "mkdocs.yml").read_text(encoding="utf-8"), re.MULTILINE)
    return re.findall(r"([\w/]+\.md)$", nav[1], re.MULTILINE)


def test_every_page_is_in_the_navigation_once():
    assert sorted(navigation()) == [str(page.relative_to(DOCS)) for page in PAGES]


def test_every_page_has_one_title():
    for page in PAGES:
        text = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
        assert len(re.findall(r"^# ", text, re.MULTILINE)) == 1, page.name
