"""Foreign text in messages of ours: on one line, escaped, and cut."""

import re
from reprlib import Repr

LIMIT = 200
_LONGEST, _SCANNED = 1000, 100_000  # of a sentence, and of what one is made from
# Control codes, line and paragraph separators, marks that turn the direction of writing or are not seen at all, and
# lone surrogates.
_UNSAFE = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff\ufeff\ufff9-\ufffb]")


def one_line(text: str) -> str:
    """The same text, with everything escaped that would break a line or cannot be written out."""
    return _UNSAFE.sub(lambda found: found[0].encode("unicode_escape").decode("ascii"), text)


def sentence(text: str) -> str:
    """One line that may hold several names: of an endless one the middle is left out, and of an endless sentence too.

    Its end says what to do. A name is what has no spaces, and endless at more than 200 characters.
    """
    text = " ".join(_cut_middle(word, LIMIT) for word in one_line(text[:_SCANNED]).split(" "))
    return _cut_middle(text, _LONGEST)


def _cut_middle(text: str, limit: int) -> str:
    return text if len(text) <= limit else f"{text[: limit // 2]}…{text[1 - limit // 2 :]}"


def shown(value: object, limit: int = LIMIT) -> str:
    """A name or value out of a file, as messages show it.

    Args:
        value: a text is shown as it is, anything else as Python writes it.
        limit: characters; what is beyond is cut.
    """
    text = one_line(value[: limit + 1] if isinstance(value, str) else quoted(value, limit))
    return text if len(text) <= limit else text[: limit - 1] + "…"


def quoted(value: object, limit: int = LIMIT) -> str:
    """Like `shown`, but texts are in quotes."""
    shortened = Repr()
    shortened.maxstring = shortened.maxother = limit
    shortened.maxtuple = shortened.maxlist = 16
    try:
        text = one_line(shortened.repr(value))
    except ValueError:  # Python writes no whole number of more than 4,300 digits
        text = f"a {type(value).__name__} that is too long to show"
    return text if len(text) <= limit else text[: limit - 1] + "…"


def in_words(count: float) -> str:
    """Bytes as people say them."""
    for unit, name in ((1e9, "GB"), (1e6, "MB")):
        if count >= unit:
            return f"{count / unit:.3g} {name}"
    return f"{count / 1e3:.0f} kB"
