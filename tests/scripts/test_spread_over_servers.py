"""What of the spreading needs no server: who is asked, how often, and under which names."""

import argparse
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from adadiffsr_core.errors import ConfigError
from scripts import server_work, upscale_prompt
from scripts import spread_over_servers as spreading
from scripts.comfy_server import ComfyServer
from scripts.server_answer import FailedError, LostError, RefusedError

PACK = Path(__file__).resolve().parents[2]


def build_servers(count=2):
    stop = threading.Event()
    return [ComfyServer(f"http://gpu-{number}:8188", stop) for number in range(count)]


def args(folder, **changed):
    return argparse.Namespace(folder=folder, output=folder / "out", recursive=True, overwrite=False, **changed)


@pytest.fixture
def refused():
    return []


@pytest.fixture
def refuse(refused):
    return lambda about, reason: refused.append((about, reason))


@pytest.fixture
def plan(tmp_path, refuse):
    """Plans a folder of files with these names."""

    def plan(*names, **changed):
        for name in names:
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_bytes(name.encode())
        given = args(tmp_path, **changed)
        sources = spreading.find_pictures(tmp_path, given.output, refuse, is_recursive=True)
        return spreading.plan(sources, given, {"scale": 4}, refuse)

    return plan


def names(jobs, folder):
    return [job.record.targets[0].relative_to(folder / "out").as_posix() for job in jobs]


def test_it_needs_no_torch():
    asked = "import sys, scripts.spread_over_servers; print({'torch', 'numpy', 'PIL', 'tqdm'} & set(sys.modules))"
    found = subprocess.run([sys.executable, "-c", asked], cwd=PACK, check=True, capture_output=True, text=True)
    assert found.stdout == "set()\n"


def test_the_shortest_queue_is_chosen():
    one, two = build_servers()
    assert server_work.choose_server([one, two], 2) is one
    one.held = 1
    assert server_work.choose_server([one, two], 2) is two
    two.others = 3
    assert server_work.choose_server([one, two], 2) is one
    assert server_work.choose_server([one, two], 2, [one]) is two
    one.held = 2
    assert server_work.choose_server([one, two], 2) is two
    # One that failed it does not use up its tries while others have no room.
    assert server_work.choose_server([one, two], 2, [two]) is None
    assert server_work.choose_server([one, two], 2, [one, two]) is two
    two.is_lost = True
    assert server_work.choose_server([one, two], 2) is None


def test_results_keep_their_folders_and_none_shares_a_name(plan, tmp_path):
    jobs = plan("a.png", "b c ü.jpg", "b c ü.png", "sub/a.png", ".hidden.png", "out/old.png")
    assert names(jobs, tmp_path) == ["a.png", "b c ü.jpg.png", "b c ü.png", "sub/a.png"]


def test_what_is_finished_is_not_made_again(plan, tmp_path, refused):
    for job in plan("a.png", "b.png"):
        server_work.write(job.record, b"result")
    assert plan("a.png", "b.png") == []
    (tmp_path / "out" / "a.png").unlink()
    (tmp_path / "b.png").write_bytes(b"another picture")
    assert names(plan("c.png"), tmp_path) == ["a.png", "c.png"]
    ((about, reason),) = refused
    assert about == tmp_path / "b.png"
    assert "is there already" in str(reason)


def test_who_joins_the_folder_takes_no_name_of_a_result(plan, tmp_path, refused):
    """As by the command line (decision D82)."""
    (job,) = plan("a.jpg")
    server_work.write(job.record, b"result")
    assert names(plan("a.png"), tmp_path) == ["a-2.png"]
    assert refused == []


def test_nothing_is_written_over_the_pictures_themselves(tmp_path, refuse, refused):
    (tmp_path / "a.png").write_bytes(b"mine")
    given = argparse.Namespace(folder=tmp_path, output=tmp_path, recursive=False, overwrite=True)
    sources = spreading.find_pictures(tmp_path, tmp_path, refuse, is_recursive=False)
    assert spreading.plan(sources, given, {}, refuse) == []
    assert "written over a picture" in str(refused[0][1])


def test_results_in_the_folder_itself_are_no_pictures_to_make(tmp_path, refuse, refused, capsys):
    def find():
        return spreading.find_pictures(tmp_path, tmp_path, refuse, is_recursive=True)

    (tmp_path / "sub").mkdir()
    for name in ("a.jpg", "sub/b.jpg"):
        (tmp_path / name).write_bytes(name.encode())
    given = argparse.Namespace(folder=tmp_path, output=tmp_path, recursive=True, overwrite=False)
    found = find()
    jobs = spreading.plan(found, given, {"scale": 4}, refuse)
    for job in jobs:
        server_work.write(job.record, b"result")
    assert sorted(path.name for path in tmp_path.rglob("*.png")) == ["a.png", "b.png"]
    assert find() == found
    assert "2 files" in capsys.readouterr().err
    assert spreading.plan(found, given, {"scale": 4}, refuse) == []
    # Under other settings they are no pictures either, nor is anything written over them.
    assert spreading.plan(find(), given, {"scale": 2}, refuse) == []
    assert all("is there already" in str(reason) for _, reason in refused)
    assert len(refused) == 2


def test_what_has_a_pictures_name_and_is_no_file_is_named(plan, tmp_path, refused):
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "nowhere.jpg").symlink_to(tmp_path / "gone.jpg")
    (tmp_path / "folder.png").mkdir()
    assert names(plan("a.png"), tmp_path) == ["a.png"]
    assert [about.name for about, _ in refused] == ["nowhere.jpg", "pipe.png"]
    assert all("is no file, or a link that leads nowhere" in reason for _, reason in refused)


def spread(monkeypatch, jobs, servers, make):
    refused, asked = {}, []

    def noted(server, job, node):
        asked.append((server, job.source.name))
        return make(server, job.source)

    monkeypatch.setattr(server_work, "make", noted)
    server_work.spread(jobs, servers, 1, {}, lambda about, reason: refused.update({about.name: str(reason)}))
    return refused, asked


def test_a_lost_servers_pictures_are_made_by_the_others(plan, tmp_path, monkeypatch):
    servers = build_servers()
    one = servers[0]

    def make(server, source):
        if server is one:
            raise LostError("gone")
        return b"result", "done"

    refused, asked = spread(monkeypatch, plan("a.png", "b.png", "c.png"), servers, make)
    assert refused == {}
    assert [server for server, _ in asked].count(one) == 1
    assert len(list((tmp_path / "out").glob("*.png"))) == 3


def test_three_tries_a_picture_and_then_that_picture_alone(plan, tmp_path, monkeypatch):
    one, two = servers = build_servers()

    def make(server, source):
        if source.name == "a.png":
            raise FailedError("no room")
        if source.name == "b.png":
            raise RefusedError("wrong")
        return b"result", "done"

    refused, asked = spread(monkeypatch, plan("a.png", "b.png", "c.png"), servers, make)
    assert refused == {"a.png": "given up after 3 tries: no room", "b.png": "wrong"}
    assert {server for server, name in asked if name == "a.png"} == {one, two}
    assert [name for _, name in asked].count("a.png") == 3
    assert [name for _, name in asked].count("b.png") == 1
    assert [path.name for path in (tmp_path / "out").glob("*.png")] == ["c.png"]


def test_something_unforeseen_costs_that_picture_alone(plan, tmp_path, monkeypatch):
    def make(server, source):
        if source.name == "a.png":
            raise KeyError("surprise")
        return b"result", "done"

    refused, _ = spread(monkeypatch, plan("a.png", "b.png", "c.png"), build_servers(), make)
    assert refused == {"a.png": "something unforeseen, KeyError: 'surprise'; please report it"}
    assert sorted(path.name for path in (tmp_path / "out").glob("*.png")) == ["b.png", "c.png"]


def test_a_server_that_fails_at_once_uses_up_no_tries_while_another_works(plan, tmp_path, monkeypatch):
    one, _ = servers = build_servers()

    def make(server, source):
        if server is one:
            raise FailedError("nonsense")
        time.sleep(0.05)
        return b"result", "done"

    refused, asked = spread(monkeypatch, plan("a.png", "b.png", "c.png", "d.png"), servers, make)
    assert refused == {}
    assert len(list((tmp_path / "out").glob("*.png"))) == 4
    assert len(asked) == len(set(asked))


def test_without_servers_the_rest_is_named(plan, monkeypatch):
    def make(server, source):
        raise LostError("gone")

    refused, _ = spread(monkeypatch, plan("a.png", "b.png", "c.png"), build_servers(), make)
    assert all("no server is left" in reason for reason in refused.values())
    assert refused.keys() == {"a.png", "b.png", "c.png"}


def test_the_workflow_gives_the_numbers_and_options_replace_them():
    node = upscale_prompt.read_node(upscale_prompt.WORKFLOW, {"scale": 3.0, "seed": None, "likeness": 46.0})
    assert (node["scale"], node["seed"], node["likeness"], node["tile_size"]) == (3.0, 0, 46.0, 0)
    prompt = upscale_prompt.build_prompt("adadiffsr/x.png [temp]", node)
    assert prompt["upscaled"]["inputs"]["image"] == ["photo", 0]
    assert prompt["photo"]["inputs"] == {"image": "adadiffsr/x.png [temp]"}


@pytest.mark.parametrize(
    "address",
    [
        "gpu-1:8188",
        "ftp://gpu-1",
        "http://",
        "",
        "http://[::1:8188",
        "http://.gpu:8188",
        f"http://{'a' * 70}:80",
        "http://gpu:99999",
        "http://gpu:abc",
        "http://gpu:0",
        "http://a b:80",
        "http://gpu/ü",
        "http://gpu?a=1",
    ],
)
def test_what_is_no_address_is_refused(address):
    with pytest.raises(ConfigError, match="is no server's address"):
        ComfyServer(address, threading.Event())


@pytest.mark.parametrize("scale", ["nan", "inf", "0", "-2"])
def test_what_is_no_scale_is_refused_before_anything_is_asked(tmp_path, capsys, scale):
    words = [str(tmp_path), "-o", str(tmp_path / "out"), "http://127.0.0.1:9", f"--scale={scale}"]
    assert spreading.main(words) == 2
    assert "--scale must be a number above 0" in capsys.readouterr().err
