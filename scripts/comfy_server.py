"""One ComfyUI server over HTTP, as much of it as it takes to have a picture made: the standard library alone."""

import http.client
import json
import secrets
import threading
from collections.abc import Mapping
from typing import Any
from urllib.error import HTTPError
from urllib.parse import urlencode, urlsplit
from urllib.request import (
    HTTPDefaultErrorHandler,
    HTTPErrorProcessor,
    HTTPHandler,
    HTTPSHandler,
    OpenerDirector,
    Request,
)

from adadiffsr_core.errors import ConfigError
from adadiffsr_core.text import shown

from .server_answer import Answer, FailedError, LostError, RefusedError, StoppedError, read_answer

_PICTURE_S, _ANSWER_S, _POLL_S, _MISSES = 120, 20, 0.5, 3
_SUBFOLDER = "adadiffsr"
_AWAY = (502, 503, 504)  # what stands before a server says so when that does not answer

Prompt = Mapping[str, Mapping[str, Any]]


class ComfyServer:
    """A running ComfyUI.

    Args:
        address: where it listens, such as `http://gpu-1:8188`.
        stop: set when nobody waits any more.

    Attributes:
        is_lost: whether it stopped answering.
        held: pictures that it was given and has not given back.
        others: prompts of others in its queue, when it was last asked.

    Raises:
        ConfigError: the address is none.
    """

    def __init__(self, address: str, stop: threading.Event) -> None:
        if not _is_address(address):
            raise ConfigError(f"{shown(address, 80)} is no server's address; give one such as http://127.0.0.1:8188")
        self.address, self.stop = address.rstrip("/"), stop
        self.is_lost, self.held, self.others = False, 0, 0
        self._mine: set[str] = set()
        self._open = _build_opener().open

    def check(self, node: str) -> None:
        """See that it answers and has a node, and how long its queue is.

        Raises:
            LostError: it does not answer.
            FailedError: it has no such node, or is no ComfyUI.
        """
        if node not in self._ask(f"/object_info/{node}").at(dict):
            raise FailedError(f"{self.address} has no node {node}; put this pack into its custom_nodes")
        self._look()

    def upload(self, name: str, content: bytes) -> str:
        """Bring a picture to its folder of temporary files, which it empties when it starts; returns Load Image's name.

        Args:
            name: plain letters and a kind; whatever had that name is replaced.
            content: of the file.

        Raises:
            LostError, FailedError: see the classes.
        """
        mark = secrets.token_hex(16)
        part = f'--{mark}\r\nContent-Disposition: form-data; name="'
        fields = {"type": "temp", "subfolder": _SUBFOLDER, "overwrite": "true"}
        head = "".join(f'{part}{key}"\r\n\r\n{value}\r\n' for key, value in fields.items())
        head += f'{part}image"; filename="{name}"\r\nContent-Type: application/octet-stream\r\n\r\n'
        body = head.encode() + content + f"\r\n--{mark}--\r\n".encode()
        kind = f"multipart/form-data; boundary={mark}"
        answer = read_answer(self.address, self._send("/upload/image", body, kind))
        return f"{answer.at(str, 'subfolder')}/{answer.at(str, 'name')} [{answer.at(str, 'type')}]"

    def run(self, prompt: Prompt) -> Answer:
        """Queue a prompt, wait until it has ended, and return what each of its nodes shows.

        Raises:
            LostError, FailedError, RefusedError, StoppedError: see the classes.
        """
        prompt_id = self._post(prompt)
        self._mine.add(prompt_id)
        try:
            entry = self._wait(prompt_id)
        finally:
            if self.stop.is_set():
                self._cancel(prompt_id)
            self._mine.discard(prompt_id)
        if entry.at(str, "status", "status_str") != "success":
            raise FailedError(_describe_failure(entry))
        return entry.part("outputs")

    def download(self, picture: Mapping[str, Any]) -> bytes:
        """What lies where the history says that a picture does; whether it is one is not known.

        Raises:
            LostError, FailedError: see the classes.
        """
        return self._send(f"/view?{urlencode(picture)}")

    def _post(self, prompt: Prompt) -> str:
        try:
            answer = self._ask("/prompt", {"prompt": prompt})
        except _AnswerError as error:
            if error.code == 400:
                raise RefusedError(_describe_refusal(read_answer(self.address, error.body))) from None
            raise
        return answer.at(str, "prompt_id")

    def _wait(self, prompt_id: str) -> Answer:
        misses = 0
        while not self.stop.wait(_POLL_S):
            try:
                # In this order: what leaves the queue is in the history.
                is_queued = prompt_id in self._look()
                history = self._ask(f"/history/{prompt_id}")
            except LostError:
                misses += 1
                if misses == _MISSES:
                    raise
                continue
            misses = 0
            if prompt_id in history.at(dict):
                return history.part(prompt_id)
            if not is_queued:
                raise FailedError(f"{self.address} knows nothing of it any more: it was started again, or cleared")
        raise StoppedError

    def _look(self) -> set[str]:
        """Prompts that wait or run there."""
        queue = self._ask("/queue")
        kinds = ("queue_running", "queue_pending")
        there = {queue.at(str, kind, place, 1) for kind in kinds for place in range(len(queue.at(list, kind)))}
        self.others = len(there - self._mine)
        return there

    def _cancel(self, prompt_id: str) -> None:
        """Take back a prompt that nobody waits for; one that cannot be is no loss."""
        try:
            self._send("/queue", json.dumps({"delete": [prompt_id]}).encode(), "application/json", _ANSWER_S)
            self._send("/interrupt", json.dumps({"prompt_id": prompt_id}).encode(), "application/json", _ANSWER_S)
        except (LostError, FailedError):
            return

    def _ask(self, path: str, value: Any = None) -> Answer:
        body = None if value is None else json.dumps(value).encode()
        return read_answer(self.address, self._send(path, body, "application/json", _ANSWER_S))

    def _send(self, path: str, body: bytes | None = None, kind: str = "", patience: float = _PICTURE_S) -> bytes:
        headers = {} if body is None else {"Content-Type": kind}
        try:
            code, reason, content = self._exchange(Request(f"{self.address}{path}", body, headers), patience)
        except (OSError, http.client.HTTPException) as error:
            raise LostError(f"{self.address} does not answer ({getattr(error, 'reason', None) or error})") from None
        if code in _AWAY:
            raise LostError(f"{self.address} does not answer ({code} {reason})")
        if code >= 300:
            raise _AnswerError(self.address, code, reason, content)
        return content

    def _exchange(self, request: Request, patience: float) -> tuple[int, str, bytes]:
        """Code, its reason, and all that is sent; of a refusal too, which may break off like any answer."""
        try:
            answer = self._open(request, timeout=patience)
        except HTTPError as error:
            answer = error
        with answer:
            return answer.code, answer.reason, bytes(answer.read())


class _AnswerError(FailedError):
    """The server answered that it would not."""

    def __init__(self, address: str, code: int, reason: str, body: bytes) -> None:
        why = "; start it with a larger --max-upload-size" if code == 413 else ""
        why = "; give the address that it leads on to" if code < 400 else why
        super().__init__(f"{address} answered {code} {reason}{why}")
        self.code, self.body = code, body


def _build_opener() -> OpenerDirector:
    """By no proxy, and without following where a server leads on: what is posted would not come with us."""
    opener = OpenerDirector()
    for handler in (HTTPHandler, HTTPSHandler, HTTPErrorProcessor, HTTPDefaultErrorHandler):
        opener.add_handler(handler())
    return opener


def _is_address(address: str) -> bool:
    """Whether a server can be asked there, if there is one."""
    try:
        place = urlsplit(address)
        # Both raise ValueError: a port that is none, and a name with a part that is empty or too long.
        is_place = place.port != 0 and bool((place.hostname or "").encode("idna"))
    except ValueError:
        return False
    is_plain = place.path.isascii() and not any(letter.isspace() or letter in "?#" for letter in address)
    return is_place and is_plain and place.scheme in ("http", "https")


def _describe_refusal(answer: Answer) -> str:
    """What `/prompt` says of a prompt that it does not take, in a sentence.

    Raises:
        OddAnswerError: it is not ComfyUI that refuses.
    """
    for node in answer.at(dict, "node_errors"):
        error = answer.part("node_errors", node, "errors", 0)
        kind = answer.at(str, "node_errors", node, "class_type")
        return f"{kind}: {error.at(str, 'message')}, {error.at(str, 'details')}"
    return f"{answer.at(str, 'error', 'message')} {answer.at(str, 'error', 'details')}".strip()


def _describe_failure(entry: Answer) -> str:
    """What the history says of a run that did not end well, in a sentence.

    Raises:
        OddAnswerError: it does not say it as ComfyUI does.
    """
    path = ("status", "messages")
    for place in range(len(entry.at(list, *path))):
        name = entry.at(str, *path, place, 0)
        if name == "execution_error":
            data = entry.part(*path, place, 1)
            said = data.at(str, "exception_message").strip().partition("\n")[0]
            return f"{data.at(str, 'node_type')}: {said}"
        if name == "execution_interrupted":
            return "it was cancelled on the server"
    return "the server did not say why"
