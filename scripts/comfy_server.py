"""One ComfyUI server over HTTP, as much of it as it takes to have a picture made: the standard library alone."""

import http.client
import json
import secrets
import threading
from collections.abc import Mapping
from typing import Any
from urllib.error import HTTPError
from urllib.parse import urlencode, urlsplit
from urllib.request import ProxyHandler, Request, build_opener

from adadiffsr_core.errors import ConfigError
from adadiffsr_core.text import shown

_PICTURE_S, _ANSWER_S, _POLL_S, _MISSES = 120, 20, 0.5, 3
_SUBFOLDER = "adadiffsr"
_AWAY = (502, 503, 504)  # what stands before a server says so when that does not answer

Prompt = Mapping[str, Mapping[str, Any]]


class LostError(Exception):
    """The server does not answer: what it had is for the others."""


class FailedError(Exception):
    """The server could not make this picture now; another, or the same later, may."""


class RefusedError(Exception):
    """No server would make this picture: the prompt itself is refused."""


class StoppedError(Exception):
    """Nobody waits any more."""


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
        place = urlsplit(address)
        if place.scheme not in ("http", "https") or not place.netloc:
            raise ConfigError(f"{shown(address, 80)} is no server's address; give one such as http://127.0.0.1:8188")
        self.address, self.stop = address.rstrip("/"), stop
        self.is_lost, self.held, self.others = False, 0, 0
        self._mine: set[str] = set()
        self._open = build_opener(ProxyHandler({})).open

    def check(self, node: str) -> None:
        """See that it answers and has a node, and how long its queue is.

        Raises:
            LostError: it does not answer.
            FailedError: it has no such node.
        """
        if node not in self._json(f"/object_info/{node}"):
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
        answer = json.loads(self._send("/upload/image", body, kind))
        return f"{answer['subfolder']}/{answer['name']} [{answer['type']}]"

    def run(self, prompt: Prompt) -> dict[str, Any]:
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
        if entry["status"]["status_str"] != "success":
            raise FailedError(_describe_failure(entry["status"]["messages"]))
        return dict(entry["outputs"])

    def download(self, picture: Mapping[str, str]) -> bytes:
        """A picture as the history names it.

        Raises:
            LostError, FailedError: see the classes.
        """
        return self._send(f"/view?{urlencode(picture)}")

    def _post(self, prompt: Prompt) -> str:
        try:
            answer = self._json("/prompt", {"prompt": prompt})
        except _AnswerError as error:
            if error.code == 400:
                raise RefusedError(_describe_refusal(error.body)) from None
            raise
        return str(answer["prompt_id"])

    def _wait(self, prompt_id: str) -> dict[str, Any]:
        misses = 0
        while not self.stop.wait(_POLL_S):
            try:
                # In this order: what leaves the queue is in the history.
                is_queued = prompt_id in self._look()
                entry = self._json(f"/history/{prompt_id}").get(prompt_id)
            except LostError:
                misses += 1
                if misses == _MISSES:
                    raise
                continue
            misses = 0
            if entry:
                return dict(entry)
            if not is_queued:
                raise FailedError(f"{self.address} knows nothing of it any more: it was started again, or cleared")
        raise StoppedError

    def _look(self) -> set[str]:
        """Prompts that wait or run there."""
        queue = self._json("/queue")
        there = {str(item[1]) for name in ("queue_running", "queue_pending") for item in queue[name]}
        self.others = len(there - self._mine)
        return there

    def _cancel(self, prompt_id: str) -> None:
        """Take back a prompt that nobody waits for; one that cannot be is no loss."""
        try:
            self._send("/queue", json.dumps({"delete": [prompt_id]}).encode(), "application/json", _ANSWER_S)
            self._send("/interrupt", json.dumps({"prompt_id": prompt_id}).encode(), "application/json", _ANSWER_S)
        except (LostError, FailedError):
            return

    def _json(self, path: str, value: Any = None) -> Any:
        body = None if value is None else json.dumps(value).encode()
        try:
            return json.loads(self._send(path, body, "application/json", _ANSWER_S))
        except ValueError:
            raise FailedError(f"{self.address} does not answer as ComfyUI does") from None

    def _send(self, path: str, body: bytes | None = None, kind: str = "", patience: float = _PICTURE_S) -> bytes:
        headers = {} if body is None else {"Content-Type": kind}
        try:
            with self._open(Request(f"{self.address}{path}", body, headers), timeout=patience) as answer:
                return bytes(answer.read())
        except HTTPError as error:
            with error:
                if error.code in _AWAY:
                    raise LostError(f"{self.address} does not answer ({error.code} {error.reason})") from None
                raise _AnswerError(self.address, error.code, error.reason, error.read()) from None
        except (OSError, http.client.HTTPException) as error:
            reason = getattr(error, "reason", None) or error
            raise LostError(f"{self.address} does not answer ({reason})") from None


class _AnswerError(FailedError):
    """The server answered that it would not."""

    def __init__(self, address: str, code: int, reason: str, body: bytes) -> None:
        why = "; start it with a larger --max-upload-size" if code == 413 else ""
        super().__init__(f"{address} answered {code} {reason}{why}")
        self.code, self.body = code, body


def _describe_refusal(body: bytes) -> str:
    """What `/prompt` says of a prompt that it does not take, in a sentence."""
    try:
        answer = json.loads(body)
        for node in answer["node_errors"].values():
            error = node["errors"][0]
            return f"{node['class_type']}: {error['message']}, {error['details']}"
        return f"{answer['error']['message']} {answer['error']['details']}".strip()
    except (ValueError, KeyError, TypeError, IndexError, AttributeError):
        return f"the prompt was refused ({shown(body.decode(errors='replace'), 80)})"


def _describe_failure(messages: list[Any]) -> str:
    """What the history says of a run that did not end well, in a sentence."""
    for name, data in messages:
        if name == "execution_error":
            return f"{data['node_type']}: {str(data['exception_message']).strip().partition(chr(10))[0]}"
        if name == "execution_interrupted":
            return "it was cancelled on the server"
    return "the server did not say why"
