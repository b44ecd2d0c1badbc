"""Listens to the host's websocket while a prompt runs."""

import asyncio
import json
import threading
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from typing_extensions import Self

Message = dict[str, Any]
PREVIEW, TEXT = 1, 3  # the host's numbers
HEAD = 8  # bytes before a preview's picture: its kind and format


@dataclass(frozen=True)
class Run:
    """What one prompt did.

    Attributes:
        entry: what `/history` says of it.
        prompt_id: its id.
        messages: every message of the host while it ran, in order.
        previews: every preview, as the bytes of a JPEG or PNG file.
    """

    entry: dict[str, Any]
    prompt_id: str
    messages: list[Message]
    previews: list[bytes]

    @property
    def executed(self) -> list[str]:
        """Ids of the nodes that ran, in order."""
        return [data["node"] for data in self._all("executing") if data["node"] is not None]

    @property
    def cached(self) -> set[str]:
        """Ids of the nodes whose results were still there."""
        return {node for data in self._all("execution_cached") for node in data["nodes"]}

    def progress(self, node: str) -> list[tuple[float, float]]:
        """Value and total of each update of one node's bar."""
        return [(data["value"], data["max"]) for data in self._all("progress") if data["node"] == node]

    def _all(self, kind: str) -> list[dict[str, Any]]:
        mine = (message["data"] for message in self.messages if message["type"] == kind)
        return [data for data in mine if data.get("prompt_id") == self.prompt_id]


class Recorder:
    """A context that is open while the host's messages for `client_id` are being collected.

    A page tells the host at once what it can read; programs, such as this is unless it is one, do not.
    """

    def __init__(self, address: str, *, is_page: bool = False):
        self._is_page = is_page
        self.client_id = uuid.uuid4().hex
        self.messages: list[Message] = []
        self.previews: list[bytes] = []
        self.texts: dict[str, str] = {}  # a line on a node, by its id
        self._address = f"{address}/ws?clientId={self.client_id}"
        self._news = threading.Condition()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._listen, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        greeting = "feature_flags" if self._is_page else "status"
        self.until(lambda message: message["type"] == greeting)
        return self

    def __exit__(self, *exception: object) -> None:
        asyncio.run_coroutine_threadsafe(self._socket.close(), self._loop).result(10)
        self._thread.join(10)
        self._loop.close()

    def until(self, wanted: Callable[[Message], bool], timeout: float = 60) -> None:
        """Wait for a message. Raises TimeoutError after `timeout` s."""
        with self._news:
            if not self._news.wait_for(lambda: any(map(wanted, self.messages)), timeout):
                raise TimeoutError(f"the host did not send what was awaited within {timeout} s")

    def _listen(self) -> None:
        self._loop.run_until_complete(self._receive())

    async def _receive(self) -> None:
        import aiohttp  # the host's requirement, not ours

        async with (
            aiohttp.ClientSession() as session,
            session.ws_connect(self._address, max_msg_size=0) as self._socket,
        ):
            if self._is_page:
                await self._socket.send_json({"type": "feature_flags", "data": {"supports_preview_metadata": True}})
            async for message in self._socket:
                with self._news:
                    self._keep(message.data)
                    self._news.notify_all()

    def _keep(self, data: str | bytes) -> None:
        if isinstance(data, str):
            self.messages.append(json.loads(data))
        elif int.from_bytes(data[:4]) == PREVIEW:
            self.previews.append(data[HEAD:])
        elif int.from_bytes(data[:4]) == TEXT:
            end = HEAD + int.from_bytes(data[4:HEAD])
            self.texts[data[HEAD:end].decode()] = data[end:].decode()
