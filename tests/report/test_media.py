"""Media on pages: a text for every picture, animations that can stand still, and pages of bounded size."""

import base64
import io
import re
from html import escape
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from codi_jax.config import ConfigError
from codi_jax.media.data_url import data_url
from codi_jax.report import media
from codi_jax.report.markup import Html
from codi_jax.report.media import described, fitted

HOSTILE = '"><script>alert("x")</script>&'


def animation(frames):
    file = io.BytesIO()
    first, *rest = (Image.fromarray(frame) for frame in frames)
    first.save(file, "WEBP", save_all=True, append_images=rest, duration=100, loop=0, lossless=True)
    return f'<img class="video" alt="" src="{data_url("image/webp", file.getvalue())}">'


def test_an_image_gets_its_alternative_text():
    assert described('<img class="image" alt="" src="data:x">', "a red 7") == (
        '<img class="image" alt="a red 7" src="data:x">'
    )
    assert described('<img src="data:x">', "a red 7") == '<img src="data:x" alt="a red 7">'
    assert described('<img alt="mine" src="data:x">', "yours") == '<img alt="mine" src="data:x">'


def test_players_and_drawings_get_a_label_and_text_stays():
    assert described("<audio controls></audio>", "a voice") == '<audio aria-label="a voice" controls></audio>'
    assert described("<svg width=1></svg>", "a pen") == '<svg role="img" aria-label="a pen" width=1></svg>'
    text = '<span class="text">seven &lt;img&gt;</span>'
    assert described(text, "anything") == text


def test_words_from_outside_are_escaped():
    for markup in ('<img alt="" src="data:x">', "<audio></audio>", "<svg></svg>"):
        shown = described(markup, HOSTILE)
        assert "<script" not in shown and escape(HOSTILE, quote=True) in shown


def test_an_animation_has_a_still_picture_for_those_who_want_no_motion():
    frames = np.zeros((3, 8, 8, 3), np.uint8)
    frames[0] = 200
    shown = described(animation(frames), "a two that moves")
    assert re.fullmatch(
        r'<picture><source media="\(prefers-reduced-motion: reduce\)" srcset=".*"><img .*></picture>', shown
    )
    still = base64.b64decode(re.search(r'srcset="data:image/png;base64,([^"]+)"', shown)[1])
    np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(still))), frames[0])
    assert 'alt="a two that moves"' in shown
    assert "<picture>" not in described(animation(frames[:1]), "one frame does not move")


def test_a_file_is_shown_by_its_modality(tmp_path):
    modality = SimpleNamespace(html=lambda value: f'<img alt="" id="{value}">', raw_from_user=lambda path: path[-5:])
    (tmp_path / "text_0.txt").write_text("word\n")
    assert media.media(modality, tmp_path / "text_0.txt", "x") == '<img alt="x" id="word">'
    assert media.media(modality, tmp_path / "image_0.png", "x") == '<img alt="x" id="0.png">'


@pytest.mark.parametrize(("most", "bytes_each", "shown"), [(8, 10, 8), (8, 30, 2), (8, 10_000, 0), (0, 10, 0)])
def test_a_page_has_as_many_samples_as_fit(monkeypatch, most, bytes_each, shown):
    monkeypatch.setattr(media, "MAX_BYTES", 100)
    built = []

    def build(columns):
        built.append(columns)
        return Html("x" * (20 + columns * bytes_each))

    page = fitted(build, most)
    assert len(page) <= 100 and built[-1] == shown and len(page) == 20 + shown * bytes_each


def test_bytes_are_counted_not_letters(monkeypatch):
    monkeypatch.setattr(media, "MAX_BYTES", 100)
    assert len(fitted(lambda columns: Html("é" * 20 * columns), 4)) == 40


def test_a_page_that_is_too_large_without_samples_is_an_error(monkeypatch):
    monkeypatch.setattr(media, "MAX_BYTES", 100)
    with pytest.raises(ConfigError, match="takes 101 bytes without its samples; it may take 100"):
        fitted(lambda columns: Html("x" * 101), 8)
