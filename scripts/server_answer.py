"""What a ComfyUI server answers, and the ways in which it does not."""

import json
from typing import Any, TypeVar, cast

Kind = TypeVar("Kind")


class LostError(Exception):
    """The server does not answer: what it had is for the others."""


class FailedError(Exception):
    """The server could not make this picture now; another, or the same later, may."""


class RefusedError(Exception):
    """No server would make this picture: the prompt itself is refused."""


class StoppedError(Exception):
    """Nobody waits any more."""


class OddAnswerError(FailedError):
    """What the server says is not what a ComfyUI would.

    Args:
        address: of the server.
    """

    def __init__(self, address: str) -> None:
        super().__init__(f"{address} does not answer as ComfyUI does")


class Answer:
    """Plain values out of a server's answer; all that is read of one is read by `at`.

    Args:
        address: of the server.
        value: the whole, or a part of it.
    """

    def __init__(self, address: str, value: Any) -> None:
        self._address, self._value = address, value

    def at(self, kind: type[Kind], *path: str | int) -> Kind:
        """What lies at the end of a path of names and places.

        Args:
            kind: that it must be of.
            path: none is the whole.

        Raises:
            OddAnswerError: nothing lies there, or something of another kind.
        """
        value = self._value
        for step in path:
            # By kind, since texts have places too.
            if not isinstance(value, dict if isinstance(step, str) else list):
                raise OddAnswerError(self._address)
            try:
                value = cast(Any, value)[step]
            except LookupError:
                raise OddAnswerError(self._address) from None
        if not isinstance(value, kind):
            raise OddAnswerError(self._address)
        return value

    def part(self, *path: str | int) -> "Answer":
        """The values by name at the end of a path.

        Raises:
            OddAnswerError: there are none.
        """
        return Answer(self._address, self.at(dict, *path))


def read_answer(address: str, content: bytes) -> Answer:
    """Read what a server sent.

    Raises:
        OddAnswerError: it is no JSON, such as a page that asks for a password.
    """
    try:
        return Answer(address, json.loads(content))
    except (ValueError, RecursionError):
        raise OddAnswerError(address) from None
