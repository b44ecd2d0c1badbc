"""Servers that answer, and not as ComfyUI does: one sentence, nothing written, and the others make the pictures."""

import json
import threading
from contextlib import ExitStack, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from urllib.parse import urlsplit

import pytest
from PIL import Image

from scripts import comfy_server, server_work
from scripts.spread_over_servers import main
from scripts.upscale_prompt import UPSCALER

ODD = "does not answer as ComfyUI does"
SIZE, SCALE = (9, 7), 2


def encode(size, kind="PNG"):
    file = BytesIO()
    Image.new("RGB", size, (40, 9, 9)).save(file, kind)
    return file.getvalue()


RESULT = encode((SIZE[0] * SCALE, SIZE[1] * SCALE))
SAVED = {"images": [{"filename": "x.png", "type": "temp", "subfolder": ""}]}
ANSWERS = {
    "/object_info": {UPSCALER: {}},
    "/queue": {"queue_running": [[0, "another", {}, {}, []]], "queue_pending": []},
    "/upload/image": {"name": "a.png", "subfolder": "adadiffsr", "type": "temp"},
    "/prompt": {"prompt_id": "1"},
    "/history": {
        "1": {
            "status": {"status_str": "success", "messages": [["execution_start", {}]]},
            "outputs": {"saved": SAVED, "upscaled": {"text": ["it went well"]}},
        }
    },
    "/view": RESULT,
}


def ended(**entry):
    return {"/history": {"1": entry}}


def failed(*messages):
    return ended(status={"status_str": "error", "messages": list(messages)}, outputs={})


@contextmanager
def serve(asked=None, **changed):
    """A server that gives these answers: values, bytes, or both behind a code; yields its address.

    Args:
        asked: paths are added to it.
        changed: answers by path, instead of ComfyUI's.
    """
    answers = {**ANSWERS, **changed}

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            self.rfile.read(int(self.headers.get("Content-Length") or 0))
            path = urlsplit(self.path).path
            if asked is not None:
                asked.append(path)
            answer = next(value for key, value in answers.items() if path.startswith(key))
            code, answer, headers = answer if isinstance(answer, tuple) else (200, answer, {})
            content = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
            self.send_response(code)
            for key, value in {"Content-Length": str(len(content)), **headers}.items():
                self.send_header(key, value)
            self.end_headers()
            self.wfile.write(content)

        do_POST = do_GET  # noqa: N815 (the library's names)

        def log_message(self, *said):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        # Looked at often, so that the end of a test waits for nothing.
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture(autouse=True)
def soon(monkeypatch):
    monkeypatch.setattr(comfy_server, "_POLL_S", 0)


@pytest.fixture
def photos(tmp_path):
    folder = tmp_path / "photos"
    folder.mkdir()
    for name in ("a.png", "b.png", "c.jpg"):
        (folder / name).write_bytes(encode(SIZE, "JPEG" if name.endswith("jpg") else "PNG"))
    return folder


@pytest.fixture
def spread(photos, tmp_path, capsys):
    """Spreads the photographs over servers; returns the exit code, what is written, and what is said."""

    def spread(*answers):
        with ExitStack() as servers:
            addresses = [servers.enter_context(serve(**each)) for each in answers]
            code = main([str(photos), "-o", str(tmp_path / "out"), *addresses, "--scale", str(SCALE)])
        written = {path.name: path.read_bytes() for path in sorted((tmp_path / "out").glob("*.png"))}
        return code, written, capsys.readouterr().err

    return spread


def test_a_server_as_it_should_be_makes_all(spread):
    assert spread({}) == (0, dict.fromkeys(["a.png", "b.png", "c.png"], RESULT), "")


NO_PICTURES = {
    "a page": b"<html>expired</html>",
    "nothing": b"",
    "cut short": RESULT[:40],
    "without its end": RESULT[:-1],
    "damaged": RESULT[:50] + bytes([RESULT[50] ^ 1]) + RESULT[51:],
    "another kind": encode((18, 14), "JPEG"),
    "another size": encode(SIZE),
}


@pytest.mark.parametrize("sent", NO_PICTURES.values(), ids=NO_PICTURES)
def test_what_is_no_whole_picture_of_the_size_asked_for_is_not_written(spread, tmp_path, sent):
    code, written, said = spread({"/view": sent})
    assert (code, written) == (2, {})
    assert said.count("given up after 3 tries: http://127.0.0.1:") == 3
    assert not (tmp_path / "out" / ".adadiffsr.jsonl").exists()
    assert spread({"/view": sent}, {})[:2] == (0, dict.fromkeys(["a.png", "b.png", "c.png"], RESULT))


ODD_ANSWERS = {
    "upload is a page": {"/upload/image": b"<html>login</html>"},
    "upload without names": {"/upload/image": {"name": "a.png"}},
    "upload of numbers": {"/upload/image": {"name": 1, "subfolder": 2, "type": 3}},
    "prompt without id": {"/prompt": {"error": "x"}},
    "prompt refused by a page": {"/prompt": (400, b"<html>bad request</html>", {})},
    "prompt refused by null": {"/prompt": (400, None, {})},
    "history is a list": {"/history": []},
    "history is deep": {"/history": b"[" * 200_000},
    "history of nothing": ended(),
    "history is null": {"/history": {"1": None}},
    "no status": ended(outputs={}),
    "status is null": ended(status=None, outputs={}),
    "no outputs": ended(status={"status_str": "success", "messages": []}),
    "nothing saved": ended(status={"status_str": "success"}, outputs={}),
    "no picture saved": ended(status={"status_str": "success"}, outputs={"saved": {"images": []}}),
    "a name saved": ended(status={"status_str": "success"}, outputs={"saved": {"images": ["x.png"]}}),
    "error without node": failed(["execution_error", {}]),
    "error without facts": failed(["execution_error"]),
    "messages are null": ended(status={"status_str": "error", "messages": None}, outputs={}),
    "messages are numbers": failed(7),
}


@pytest.mark.parametrize("odd", ODD_ANSWERS.values(), ids=ODD_ANSWERS)
def test_an_odd_answer_fails_that_servers_try_and_the_others_go_on(spread, odd):
    code, written, said = spread(odd)
    assert (code, written) == (2, {})
    assert said.count("given up after 3 tries: http://127.0.0.1:") == said.count(ODD) == 3
    assert spread(odd, {})[:2] == (0, dict.fromkeys(["a.png", "b.png", "c.png"], RESULT))


@pytest.mark.parametrize(
    "odd",
    [
        *({"/queue": value} for value in ({}, [], None, {"queue_running": [7], "queue_pending": []})),
        *({"/object_info": value} for value in (7, None, [], b"<html></html>", b"\xff")),
    ],
)
def test_what_is_no_comfyui_is_left_out_before_the_work(spread, odd):
    code, written, said = spread(odd)
    assert (code, written) == (2, {})
    assert ODD in said
    assert "no server can do the work" in said
    code, written, said = spread(odd, {})
    assert (code, len(written), said.count(ODD)) == (0, 3, 1)


def test_a_refusal_that_breaks_off_is_a_server_lost(spread):
    broken = {"/upload/image": (500, b"no room", {"Content-Length": "900"})}
    code, written, said = spread(broken, {})
    assert (code, len(written)) == (0, 3)
    assert "does not answer" in said
    assert "the others do what it had" in said


@pytest.mark.parametrize("place", ["/login", "http://[::1"])
def test_where_a_server_leads_on_to_is_not_followed(spread, place):
    for path in ("/object_info", "/upload/image"):
        code, written, said = spread({path: (302, b"", {"Location": place})})
        assert (code, written) == (2, {})
        assert "answered 302 Found; give the address that it leads on to" in said


def test_what_comfyui_itself_says_is_told(spread):
    refusal = {"error": {"message": "no", "details": ""}, "node_errors": {}}
    assert spread({"/prompt": (400, refusal, {})})[2].count(".png: no\n") == 2
    errors = {"5": {"class_type": "LoadImage", "errors": [{"message": "bad", "details": "worse"}]}}
    refusal["node_errors"] = errors
    assert "a.png: LoadImage: bad, worse\n" in spread({"/prompt": (400, refusal, {})})[2]
    error = ["execution_error", {"node_type": "LoadImage", "exception_message": "no picture\nat all"}]
    assert "given up after 3 tries: LoadImage: no picture\n" in spread(failed(["execution_start", {}], error))[2]
    assert "it was cancelled on the server" in spread(failed(["execution_interrupted", {}]))[2]


def test_a_picture_without_a_remark_is_as_good(spread):
    history = {"1": {**ANSWERS["/history"]["1"], "outputs": {"saved": SAVED}}}
    assert spread({"/history": history})[0] == 0


def test_files_that_are_no_pictures_reach_no_server(spread, photos):
    (photos / "a.png").write_bytes(b"")
    (photos / "b.png").write_text("hi")
    (photos / "c.jpg").write_bytes(encode(SIZE, "JPEG")[:100])
    asked = []
    code, written, said = spread({"asked": asked})
    assert (code, written) == (2, {})
    assert {path for path in asked if not path.startswith(("/object_info", "/queue"))} == set()
    assert "a.png: the file is empty" in said
    assert "b.png: the file is no PNG, JPEG, WebP or BMP" in said
    assert "c.jpg: the file is cut short" in said


def test_a_picture_that_changes_while_the_folder_is_worked_on_is_refused(spread, photos, monkeypatch):
    check_all = server_work.check_all

    def check(servers):
        (photos / "b.png").write_bytes(encode((6, 6)))
        check_all(servers)

    with monkeypatch.context() as patched:
        patched.setattr("scripts.spread_over_servers.check_all", check)
        code, written, said = spread({})
    assert (code, list(written)) == (2, ["a.png", "c.png"])
    assert said.endswith("b.png: was changed while the folder was worked on; start again\n")
    # Then it is a picture like any other.
    (photos / "b.png").write_bytes(encode(SIZE))
    assert spread({})[:2] == (0, dict.fromkeys(["a.png", "b.png", "c.png"], RESULT))
