"""What a program that uses ComfyUI over HTTP does, and no more."""

import json
import time
import uuid
from collections.abc import Mapping
from io import BytesIO
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.parse import quote, urlencode
from urllib.request import ProxyHandler, Request, build_opener

import numpy as np
from PIL import Image

from tests.host.recorder import Recorder, Run

Prompt = dict[str, dict[str, Any]]
Entry = dict[str, Any]


class RejectedError(Exception):
    """The host refused nodes of a prompt before running it; `answer` is the JSON it gave."""

    def __init__(self, answer: dict[str, Any]):
        super().__init__(json.dumps(answer))
        self.answer = answer


class Client:
    """Talks to one host at `address`, never through a proxy."""

    def __init__(self, address: str):
        self.address = address
        self._open = build_opener(ProxyHandler({})).open

    def get(self, path: str, **query: str) -> bytes:
        """The body at `path`, which is quoted here. Raises HTTPError for a status that is not 200."""
        return self._send(Request(f"{self.address}{quote(path)}{'?' + urlencode(query) if query else ''}"))

    def json(self, path: str) -> Any:
        """The JSON at `path`."""
        return json.loads(self.get(path))

    def object_info(self) -> dict[str, Any]:
        """What the host says of every node, by node id."""
        return dict(self.json("/object_info"))

    def post(self, prompt: Prompt, client_id: str = "") -> str:
        """Put a prompt into the queue and return its id.

        Raises:
            RejectedError: the host refuses it, or a part of it, in which case it runs the rest.
        """
        try:
            answer = json.loads(self._post("/prompt", {"prompt": prompt, "client_id": client_id}))
        except HTTPError as error:
            with error:
                raise RejectedError(json.loads(error.read())) from None
        if answer["node_errors"]:
            raise RejectedError(answer)
        return str(answer["prompt_id"])

    def wait(self, prompt_id: str, timeout: float = 120) -> Entry:
        """What `/history` says of a prompt once it has ended, well or not. Raises TimeoutError after `timeout` s."""
        deadline = time.monotonic() + timeout
        while time.monotonic() < deadline:
            if found := self.json(f"/history/{prompt_id}").get(prompt_id):
                return dict(found)
            time.sleep(0.05)
        raise TimeoutError(f"prompt {prompt_id} did not end within {timeout} s")

    def run(self, prompt: Prompt, timeout: float = 120) -> Entry:
        """Post a prompt, wait for its end and return its history."""
        return self.wait(self.post(prompt), timeout)

    def record(self, prompt: Prompt, timeout: float = 120) -> Run:
        """Run a prompt and keep every message and preview that the host sends meanwhile."""
        with self.listen() as recorder:
            prompt_id = self.post(prompt, recorder.client_id)
            entry = self.wait(prompt_id, timeout)
            recorder.until(lambda message: message["type"] == "executing" and message["data"]["node"] is None)
        return Run(entry, prompt_id, recorder.messages, recorder.previews)

    def listen(self, *, is_page: bool = False) -> Recorder:
        """A recorder of what the host sends to the prompts posted with its `client_id`."""
        return Recorder(self.address.replace("http", "ws", 1), is_page=is_page)

    def pictures(self, entry: Entry) -> dict[str, list[np.ndarray]]:
        """Pictures that a run left, by node id, each `[H,W,3]` uint8."""
        found = {node: output["images"] for node, output in entry["outputs"].items() if "images" in output}
        return {node: [self.picture(image) for image in images] for node, images in found.items()}

    def picture(self, image: Mapping[str, str]) -> np.ndarray:
        """One picture named as `/history` names it."""
        return np.asarray(Image.open(BytesIO(self.get("/view", **image))).convert("RGB"))

    def interrupt(self) -> None:
        """Cancel what runs now."""
        self._post("/interrupt", {})

    def queue(self) -> dict[str, list[Any]]:
        """`queue_running` and `queue_pending`."""
        return dict(self.json("/queue"))

    def upload(self, file: Path) -> str:
        """Put a picture into the host's input folder; the name to give to Load Image."""
        mark = uuid.uuid4().hex
        head = f'--{mark}\r\nContent-Disposition: form-data; name="image"; filename="{file.name}"\r\n\r\n'
        body = head.encode() + file.read_bytes() + f"\r\n--{mark}--\r\n".encode()
        kind = {"Content-Type": f"multipart/form-data; boundary={mark}"}
        return str(json.loads(self._send(Request(f"{self.address}/upload/image", body, kind)))["name"])

    def _post(self, path: str, value: Any) -> bytes:
        kind = {"Content-Type": "application/json"}
        return self._send(Request(f"{self.address}{path}", json.dumps(value).encode(), kind))

    def _send(self, request: Request) -> bytes:
        with self._open(request, timeout=30) as answer:
            return bytes(answer.read())


def find_messages(entry: Entry, kind: str) -> list[dict[str, Any]]:
    """The messages of one kind that `/history` keeps of a run."""
    return [data for name, data in entry["status"]["messages"] if name == kind]
