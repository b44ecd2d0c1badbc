"""Splitting and joining: the bit, the limits, and damage that is refused."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adadiffsr_core.errors import CheckpointError
from scripts.device.join import join
from scripts.device.parts import MANIFEST, Limits, join_parts, split_files
from scripts.device.publish import FOLDER, Publisher, zip_reports


def write_files(folder, **contents):
    folder.mkdir(exist_ok=True)
    for name, content in contents.items():
        (folder / name).write_bytes(content)
    return {name: folder / name for name in contents}


@given(st.lists(st.binary(max_size=200), min_size=1, max_size=4), st.integers(1, 64))
@settings(max_examples=60)
def test_what_is_joined_equals_what_was_split_to_the_bit(tmp_path_factory, contents, part_bytes):
    folder = tmp_path_factory.mktemp("parts")
    files = write_files(folder / "in", **{f"f{n}": content for n, content in enumerate(contents)})
    limits = Limits(files=1000, part_bytes=part_bytes)
    assert split_files(files, folder / "parts", limits=limits) == []
    assert max(path.stat().st_size for path in (folder / "parts").glob("*.part*")) <= part_bytes
    joined = join_parts(folder / "parts", folder / "out")
    assert [path.read_bytes() for path in joined] == contents


def test_the_shipped_limits_hold_for_a_large_model(tmp_path):
    files = write_files(tmp_path / "in", ldm=bytes(36 * 2**20), autoencoder=bytes(8 * 2**20), reports=bytes(2**20))
    assert split_files(files, tmp_path / "parts") == []
    sizes = [path.stat().st_size for path in (tmp_path / "parts").iterdir()]
    assert len(sizes) <= 8
    assert max(sizes) <= 16 * 2**20
    assert sum(sizes) <= 64 * 2**20


def test_what_is_too_much_is_left_out_whole_and_said_the_last_first(tmp_path):
    files = write_files(tmp_path / "in", ldm=b"l" * 40, autoencoder=b"a" * 30, reports=b"r" * 10)
    limits = Limits(files=8, part_bytes=10, total_bytes=1000)
    assert split_files(files, tmp_path / "parts", limits=limits) == ["reports"]
    assert len(list((tmp_path / "parts").iterdir())) == 8
    assert [path.name for path in join_parts(tmp_path / "parts", tmp_path / "out")] == ["ldm", "autoencoder"]
    assert split_files(files, tmp_path / "few", limits=Limits(total_bytes=45)) == ["autoencoder", "reports"]


@pytest.fixture
def parts(tmp_path):
    split_files(write_files(tmp_path / "in", net=bytes(range(100))), tmp_path / "parts", limits=Limits(part_bytes=40))
    return tmp_path / "parts"


def test_a_damaged_part_is_refused_by_name_and_nothing_is_written(parts, tmp_path):
    part = parts / "net.part1"
    content = bytearray(part.read_bytes())
    content[7] ^= 1
    part.write_bytes(content)
    with pytest.raises(CheckpointError, match=r"net\.part1 is damaged.*fetch it again"):
        join_parts(parts, tmp_path / "out")
    assert not list((tmp_path / "out").iterdir())


@pytest.mark.parametrize("name", ["net.part0", "net.part2", MANIFEST])
def test_a_missing_file_is_refused_by_name(parts, tmp_path, name):
    (parts / name).unlink()
    with pytest.raises(CheckpointError, match=name):
        join_parts(parts, tmp_path / "out")


def test_parts_in_the_wrong_order_are_refused(parts, tmp_path):
    manifest = json.loads((parts / MANIFEST).read_text())
    manifest["files"]["net"]["parts"].reverse()
    (parts / MANIFEST).write_text(json.dumps(manifest))
    with pytest.raises(CheckpointError, match="do not make up"):
        join_parts(parts, tmp_path / "out")


def test_a_manifest_cannot_write_elsewhere(parts, tmp_path):
    manifest = json.loads((parts / MANIFEST).read_text())
    manifest["files"]["../net"] = manifest["files"].pop("net")
    (parts / MANIFEST).write_text(json.dumps(manifest))
    with pytest.raises(CheckpointError, match="lies elsewhere"):
        join_parts(parts, tmp_path / "out")


def test_a_publisher_always_shows_the_newest_whole_set_and_nothing_else(tmp_path):
    out = tmp_path / "out"
    publisher = Publisher(out, Limits(part_bytes=10))
    for size in (35, 5, 22):
        publisher.publish(write_files(tmp_path / "in", net=bytes([size]) * size), {"size": size})
        assert [path.name for path in out.iterdir()] == [FOLDER]
        assert join_parts(out, tmp_path / "back")[0].read_bytes() == bytes([size]) * size
    publisher.close()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["back", "in", "out"]


def test_an_interrupted_set_leaves_the_one_before(tmp_path, monkeypatch):
    publisher = Publisher(tmp_path / "out")
    publisher.publish(write_files(tmp_path / "in", net=b"old"), {})
    with pytest.raises(FileNotFoundError):
        publisher.publish(write_files(tmp_path / "in", net=b"new") | {"gone": tmp_path / "gone"}, {})
    assert join_parts(tmp_path / "out", tmp_path / "back")[0].read_bytes() == b"old"


def test_reports_come_back_as_files(tmp_path):
    files = write_files(tmp_path / "in", log=b"lines", picture=b"pixels")
    zip_reports(tmp_path / "in" / "reports.zip", [*files.items(), ("none", tmp_path / "none")])
    split_files({"reports.zip": tmp_path / "in" / "reports.zip"}, tmp_path / "parts")
    join(tmp_path / "parts", tmp_path / "out")
    assert (tmp_path / "out" / "reports" / "log").read_bytes() == b"lines"
    assert (tmp_path / "out" / "reports" / "picture").read_bytes() == b"pixels"
