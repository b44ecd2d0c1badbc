"""Texts that users write above their pictures, in any script and of any length."""

from pathlib import Path

import matplotlib
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import ImageFont

from adadiffsr_core.drawing import lettering
from adadiffsr_core.drawing.lettering import fit_text, measure, spell
from adadiffsr_core.drawing.primitives import text_item

DEJAVU = str(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf")
FOREIGN = "文字超解像度Жяλωשبक漢あ한éßœ→☃😀\ue000\u0bb9"


@pytest.fixture
def with_fonts(monkeypatch):
    """A system with these fonts and no others."""

    def choose(*names):
        monkeypatch.setattr(lettering, "SYSTEM_FONTS", names)
        forget()

    yield choose
    monkeypatch.undo()
    forget()


def forget():
    for cached in (lettering._find_font, lettering.spell):
        cached.cache_clear()


@given(st.text(max_size=80), st.integers(30, 300))
@settings(deadline=None)
def test_fitted_text_is_no_wider_than_its_place_and_on_one_line(text, width):
    fitted = fit_text(text, width, 16)
    assert measure(fitted, 16) <= width
    assert fitted.isprintable()
    assert fit_text(fitted, width, 16) == fitted


def test_text_is_cut_where_the_next_letter_would_not_fit():
    fitted = fit_text("somewhat longer than its place", 100, 16)
    kept = fitted.removesuffix("…")
    assert "somewhat longer than its place".startswith(kept)
    assert measure(fitted, 16) <= 100 < measure("somewhat longer than its place"[: len(kept) + 2] + "…", 16)
    assert fit_text("short", 100, 16) == "short"


@pytest.mark.parametrize("letters", ["il", "文", "e\u0301", "\u0301", "a b", "\n", "😀", "\u202e"])
def test_long_texts_take_no_more_measuring_than_short_ones(letters, monkeypatch):
    counted = []
    count, measured = counted.append, lettering.measure
    monkeypatch.setattr(lettering, "measure", lambda text, size_px: count(len(text)) or measured(text, size_px))
    costs = []
    for length in (1_000, 100_000):
        counted.clear()
        fitted = fit_text(letters * length, 300, 16)
        costs.append((len(counted), sum(counted)))
        assert measured(fitted, 16) <= 300
    assert costs[1] <= (15, 40_000)
    assert costs[0] == costs[1]


@pytest.mark.parametrize("fonts", [(), ("no such font.ttf",), (DEJAVU,), lettering.SYSTEM_FONTS], ids=len)
def test_no_letter_is_drawn_as_a_box(fonts, with_fonts):
    """Different letters look different, and none like what a font draws for those that it lacks."""
    with_fonts(*fonts)
    drawn = {}
    for letter in FOREIGN:
        fitted = fit_text(letter, 400, 24)
        assert fitted
        drawn[letter] = np.array(text_item(fitted, 24)).tobytes()
        for part in fitted:
            name = lettering._find_font(part)
            assert name is not None
            assert lettering._has(name, part)
    assert len(set(drawn.values())) == len(FOREIGN)


def test_letters_without_a_font_are_told_by_like_ones_or_by_their_number(with_fonts):
    with_fonts()
    assert fit_text("Café naïve, Łódź – Straße", 900, 16) == "Cafe naive, Lodz - Strasse"
    assert fit_text("前 → 后", 900, 16) == r"\u524d \u2192 \u540e"
    assert fit_text("ﬁne ½ ①", 900, 16) == "ﬁne 1/2 1"
    assert spell("\u0301") == ""


def test_a_font_of_the_system_is_taken_where_it_has_the_letter(with_fonts):
    with_fonts("no such font.ttf", DEJAVU)
    assert fit_text("До и после é", 900, 16) == "До и после é"
    assert fit_text("文", 900, 16) == r"\u6587"
    font = ImageFont.truetype(DEJAVU, 16)
    assert measure("До", 16) == font.getlength("До")
    assert measure("ab До", 16) == lettering.load_font(16).getlength("ab ") + font.getlength("До")


def test_what_fonts_draw_for_private_use_is_told_by_its_number():
    assert fit_text("a\uef00b", 300, 16) == r"a\uef00b"


def test_plain_captions_are_in_pillows_own_font():
    text = "before, after: 4x (DDIM) 100 % [a_b]"
    assert measure(text, 16) == lettering.load_font(16).getlength(text)
    assert fit_text(text, 900, 16) == text


def test_lines_become_one():
    assert fit_text("  one\n\ttwo\r\n three\u2028four ", 900, 16) == "one two three four"
    assert fit_text("a\x1b[31m\x00\u202eb", 900, 16) == r"a\x1b[31m\x00\u202eb"
    assert fit_text("\ud800", 900, 16) == r"\ud800"
