"""Foreign text drawn as letters: measured in few steps, cut to what fits, and never a row of boxes.

Source: decision D65.
"""

import math
import unicodedata
from collections.abc import Sequence
from functools import cache, lru_cache

from PIL import Image, ImageDraw, ImageFont

from ..text import one_line

Font = ImageFont.FreeTypeFont | ImageFont.ImageFont

# Under these names systems have fonts: Linux', then macOS', then Windows'.
SYSTEM_FONTS = (
    "DejaVuSans.ttf", "NotoSans-Regular.ttf", "LiberationSans-Regular.ttf", "FreeSans.ttf", "NotoSansCJK-Regular.ttc",
    "NotoSansCJKsc-Regular.otf", "NotoSansSC-Regular.otf", "NotoSansSC-Regular.ttf", "NotoSansJP-Regular.otf",
    "NotoSansKR-Regular.otf", "DroidSansFallbackFull.ttf", "DroidSansFallback.ttf", "wqy-microhei.ttc",
    "wqy-zenhei.ttc", "uming.ttc", "NotoSansArabic-Regular.ttf", "NotoSansHebrew-Regular.ttf",
    "NotoSansDevanagari-Regular.ttf", "NotoSansBengali-Regular.ttf", "NotoSansTamil-Regular.ttf",
    "NotoSansThai-Regular.ttf", "NotoSansSymbols2-Regular.ttf", "NotoEmoji-Regular.ttf", "unifont.ttf",
    "Arial Unicode.ttf", "Hiragino Sans GB.ttc", "PingFang.ttc", "STHeiti Medium.ttc", "AppleSDGothicNeo.ttc",
    "segoeui.ttf", "arial.ttf", "msyh.ttc", "msjh.ttc", "msgothic.ttc", "YuGothM.ttc", "malgun.ttf", "simsun.ttc",
    "Nirmala.ttc", "Nirmala.ttf", "LeelawUI.ttf", "seguisym.ttf",
)  # fmt: skip
_NOBODY = "\U0010ffff"  # no character, and in no font
_NOBODYS = ("Co", "Cn", "Cs", "Cc")  # for private use, say, where fonts draw what they like
_LETTERS = {
    "ß": "ss", "ẞ": "SS", "æ": "ae", "Æ": "AE", "œ": "oe", "Œ": "OE", "ø": "o", "Ø": "O", "ł": "l", "Ł": "L", "đ": "d",
    "Đ": "D", "ð": "d", "Ð": "D", "þ": "th", "Þ": "Th", "ı": "i", "–": "-", "—": "-", "‘": "'", "’": "'", "“": '"',
    "”": '"', "„": '"', "«": '"', "»": '"', "×": "x", "·": ".", "€": "EUR", "⁄": "/",
}  # fmt: skip
_NARROWEST = 0.1  # of the size, below any letter's advance
_TRIED_PX = 24
_KNOWN = 4096  # letters


@cache
def load_font(size_px: int) -> Font:
    """Pillow's own font, so that pictures look the same on every machine."""
    return ImageFont.load_default(size_px)


@cache
def _load_system_font(name: str, size_px: int) -> Font | None:
    try:
        return ImageFont.truetype(name, size_px)
    except OSError:
        return None


def _open_font(name: str, size_px: int) -> Font | None:
    return _load_system_font(name, size_px) if name else load_font(size_px)


@lru_cache(_KNOWN * 8)
def _has(name: str, letter: str) -> bool:
    """Whether a font has a letter of its own, and not the box that stands for those that it lacks."""
    font = _open_font(name, _TRIED_PX)
    if font is None:
        return False
    try:
        drawn = font.getmask(letter)
    except (UnicodeEncodeError, OSError):  # a font of fixed letters, or a damaged one
        return False
    is_seen = drawn.getbbox() is not None
    return is_seen and (drawn.size, bytes(drawn)) != _draw_missing(name)


@cache
def _draw_missing(name: str) -> tuple[tuple[int, int], bytes] | None:
    font = _open_font(name, _TRIED_PX)
    try:
        drawn = font.getmask(_NOBODY) if font is not None else None
    except (UnicodeEncodeError, OSError):
        return None
    return None if drawn is None else (drawn.size, bytes(drawn))


@lru_cache(_KNOWN)
def _find_font(letter: str) -> str | None:
    """The first font that has a letter: "" is Pillow's own, None that there is none."""
    if letter == " ":
        return ""
    if unicodedata.category(letter) in _NOBODYS:
        return None
    return next((name for name in ("", *SYSTEM_FONTS) if _has(name, letter)), None)


@lru_cache(_KNOWN)
def spell(letter: str) -> str:
    r"""The letter, or what stands for it where no font has it: `é` as `e`, and else its number, such as `\u6587`."""
    if _find_font(letter) is not None:
        return letter
    if unicodedata.category(letter) in ("Mn", "Me", "Cf"):
        return ""  # it was to change or to join its neighbours
    parts = (part for part in unicodedata.normalize("NFKD", letter) if unicodedata.category(part) != "Mn")
    plain = "".join(_LETTERS.get(part, part) for part in parts)
    if plain != letter and plain and all(part.isascii() and part.isprintable() for part in plain):
        return plain
    return letter.encode("unicode_escape").decode("ascii")


def _split_runs(text: str) -> list[tuple[str, str]]:
    """Names of fonts and the text that each is to draw; marks stay with their letter where its font has them."""
    runs: list[tuple[str, str]] = []
    for letter in text:
        stays = letter == " " or (unicodedata.category(letter)[0] == "M" and runs and _has(runs[-1][0], letter))
        name = runs[-1][0] if runs and stays else _find_font(letter) or ""
        if runs and runs[-1][0] == name:
            runs[-1] = name, runs[-1][1] + letter
        else:
            runs.append((name, letter))
    return runs


def measure(text: str, size_px: int) -> float:
    """Width of one line, px."""
    fonts = ((_open_font(name, size_px), part) for name, part in _split_runs(text))
    return sum(font.getlength(part) for font, part in fonts if font is not None)


def fit_text(text: str, width_px: float, size_px: int) -> str:
    """The text on one line, or as much of it as fits into the width, with an ellipsis; letters as `spell` has them.

    What is certain not to fit is cut off before anything is measured, and the rest is measured a dozen times.
    """
    most = max(1, math.ceil(width_px / (_NARROWEST * size_px)))
    line = one_line(" ".join(text.split()))
    is_whole = len(line) <= most
    letters = [spell(letter) for letter in unicodedata.normalize("NFC", line[:most])]
    if is_whole and measure(whole := "".join(letters), size_px) <= width_px:
        return whole
    fits, too_long = 0, len(letters) + 1 - is_whole
    while too_long - fits > 1:
        count = (fits + too_long) // 2
        if measure(_cut(letters, count), size_px) <= width_px:
            fits = count
        else:
            too_long = count
    return _cut(letters, fits)


def _cut(letters: Sequence[str], count: int) -> str:
    return "".join(letters[:count]).rstrip() + "…"


def write_line(
    picture: Image.Image, left: float, middle: float, text: str, colour: tuple[int, int, int], size_px: int
) -> None:
    """Draw a text that `fit_text` has made, every part with a font that has its letters."""
    draw = ImageDraw.Draw(picture)
    for name, part in _split_runs(text):
        font = _open_font(name, size_px)
        if font is not None:
            draw.text((left, middle), part, colour, font, anchor="lm")
            left += font.getlength(part)
