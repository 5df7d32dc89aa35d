"""Links of pages to files of the repository lead to pages of the site that show these files.

On GitHub `../codi_jax/codi.py` is the file. On the site it becomes a page, `source/codi_jax/codi.py.html`: code in a
block, a notebook as text and code, a folder as a list. Such pages are not in the navigation, nor found by the search.

At the end every page is checked to load nothing from another host.
"""

import json
import os
import re
from pathlib import Path

from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File

ROOT = Path(__file__).parents[1]
LINK = re.compile(r"(?<=\]\()([^)\s#]+)(?=\)|#)")
CODE = re.compile(r"(^```.*?^```|`[^`\n]+`)", re.DOTALL | re.MULTILINE)
HIDDEN = "---\nsearch:\n  exclude: true\n---\n\n"
LANGUAGES = {".py": "python", ".sh": "bash", ".yaml": "yaml", ".yml": "yaml", ".json": "json"}
LOADED = re.compile(
    r"""<(?:script|img|iframe|audio|video|source)\b[^>]*\bsrc=["']?(?:https?:)?//"""
    r"""|<link\b(?=[^>]*rel=["']?(?:stylesheet|preload|icon|preconnect))[^>]*href=["']?(?:https?:)?//"""
)


def on_files(files, config):
    """Adds a page for every file that a page links to, and for those that such a page of Markdown links to."""
    queue = [Path(file.abs_src_path) for file in files.documentation_pages()]
    for path in queue:
        if path.suffix != ".md":
            continue
        for target in _targets(path.parent, path.read_text(encoding="utf-8"), files):
            if files.get_file_from_path(uri := _uri(target)) is None:
                files.append(File.generated(config, uri, content=_shown(target)))
                queue.append(target)
    return files


def on_page_markdown(markdown, page, config, files):
    """Leads links to these pages."""
    uri = page.file.src_uri
    shown = page.file.generated_by is not None  # which links as the file does that it shows
    if shown and not uri.endswith(".md.md"):
        return markdown
    folder = (ROOT / uri.removeprefix("source/")).parent if shown else (ROOT / "docs" / uri).parent

    def replaced(match):
        path = Path(os.path.normpath(folder / match[1]))
        if "://" in match[1] or not path.exists():
            return match[1]
        to = _page(path, files) or _uri(path)
        return os.path.relpath(to, os.path.dirname(uri) or ".")

    parts = CODE.split(markdown)  # the odd ones are code
    return "".join(part if i % 2 else LINK.sub(replaced, part) for i, part in enumerate(parts))


def on_post_build(config):
    """Refuses pages that load anything from another host."""
    for path in Path(config.site_dir).rglob("*.html"):
        if match := LOADED.search(path.read_text(encoding="utf-8")):
            raise PluginError(f"{path}: loads from another host: {match[0]}")


def _page(path, files):
    """The address of a file of docs/ that is a file of the site; None for others."""
    inside = path.is_relative_to(ROOT / "docs")
    uri = path.relative_to(ROOT / "docs").as_posix() if inside else ""
    return uri if inside and files.get_file_from_path(uri) else None


def _targets(folder, text, files):
    """The files and folders that links of a text in a folder name, if they are none of the site."""
    links = (match[1] for part in CODE.split(text)[::2] for match in LINK.finditer(part))
    paths = (Path(os.path.normpath(folder / link)) for link in links if "://" not in link)
    return [path for path in paths if path.exists() and _page(path, files) is None]


def _uri(path):
    return f"source/{path.relative_to(ROOT).as_posix()}.md"


def _shown(path):
    """The page of a file or folder."""
    name = path.relative_to(ROOT).as_posix()
    title = f"{HIDDEN}# `{name}`\n\n"
    if path.is_dir():
        return title + "".join(f"- `{each.name}`\n" for each in sorted(path.iterdir()) if each.name[0] not in "._")
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".md":
        return f"{HIDDEN}{text}"
    if path.suffix == ".ipynb":
        cells = json.loads(text)["cells"]
        return f"{title}\n" + "\n\n".join(
            "".join(cell["source"]) if cell["cell_type"] == "markdown" else _block("".join(cell["source"]), "python")
            for cell in cells
        )
    return title + _block(text, LANGUAGES.get(path.suffix, "text"))


def _block(text, language):
    return f"````{language}\n{text.rstrip()}\n````\n"
