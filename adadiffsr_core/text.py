"""Foreign text in messages of ours: on one line, escaped, and cut."""

import re
from reprlib import Repr

LIMIT = 200
_LONGEST, _SCANNED = 1000, 100_000
# Control codes, line and paragraph separators, marks that turn the direction of writing, and lone surrogates.
_UNSAFE = re.compile("[\x00-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


def one_line(text: str) -> str:
    """The same text, with everything escaped that would break a line or cannot be written out."""
    return _UNSAFE.sub(lambda found: found[0].encode("unicode_escape").decode("ascii"), text)


def sentence(text: str) -> str:
    """A message as it is said: on one line, escaped, and short whatever was named in it.

    Args:
        text: words of more than 200 characters, which are names, lose their middle; a message loses what is beyond
            1,000 characters.
    """
    words = [_cut_middle(word) for word in one_line(text[:_SCANNED]).split(" ")]
    said = " ".join(words)
    return said if len(said) <= _LONGEST else said[: _LONGEST - 1] + "…"


def _cut_middle(word: str) -> str:
    return word if len(word) <= LIMIT else f"{word[: LIMIT // 2]}…{word[1 - LIMIT // 2 :]}"


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
