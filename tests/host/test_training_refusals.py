"""What Train MMLE Regressor refuses, what it reads and what it leaves out."""

import re
from pathlib import Path

import pytest
import torch

from tests.host import tiny
from tests.host.training import SETTINGS, build_vae, save_photos, text_model

pytestmark = pytest.mark.usefixtures("extras")


def test_what_it_refuses_is_said_in_a_sentence(host, train, places, refusal):
    mismatched = {**text_model(host), "vae": build_vae(host, 16)}
    hint = tiny.with_control(tiny.text(), tiny.build_control(host), torch.rand(1, 64, 64, 3))
    save_photos(places.root / "input" / "few", 3)
    (places.root / "input" / "none").mkdir()
    (places.models / "taken.safetensors").write_bytes(b"something else")
    for changes, sentence in (
        ({"image_folder": " "}, "name a folder of photographs in image_folder"),
        ({"image_folder": "absent"}, "image_folder 'absent' is no folder of photographs"),
        ({"image_folder": "none"}, "image_folder 'none' is no folder of photographs"),
        ({"image_folder": "few"}, "3 photographs and at least 4 are needed"),
        ({"file_name": "a/b"}, "plain name"),
        ({"file_name": ".safetensors"}, "plain name"),
        ({"file_name": "taken"}, "taken.safetensors is already in .*; choose another file_name"),
        ({"metrics": "psnr"}, "at least one with a reference, such as psnr, and one without"),
        ({"metrics": "psnr, sharpness"}, "no metric sharpness"),
        ({"tile_size": 72}, "tile_size 72 px is not a multiple of 64; use 64 or 128"),
        ({"metrics": "psnr, niqe", "tile_size": 64}, "niqe"),
        (mismatched, "this VAE makes latents of .* connect the model's own VAE"),
        ({"positive": hint}, "the conditioning holds control"),
        ({"cfg": float("nan")}, "cfg must be"),
        ({"denoise": float("nan")}, "denoise must be"),
    ):
        with pytest.raises(refusal, match=sentence) as caught:
            train(**changes)
        assert "\n" not in str(caught.value)
    assert not places.file.exists()


@pytest.mark.parametrize("name", ["con", "LPT1.x", "a.", "a\u202eb", "a\ud800", "a\0", "a" * 101, "é" * 100])
def test_a_file_name_that_some_system_cannot_keep_is_refused(pack, places, refusal, name):
    weights_file = pack("nodes.host.training").weights_file
    if name == "é" * 100:  # 200 bytes
        assert weights_file(name).name == f"{name}.safetensors"
        return
    with pytest.raises(refusal, match="name"):
        weights_file(name)


def test_only_photographs_that_anyone_may_see_are_read(pack, places, refusal):
    """Of what lies elsewhere nothing is told, not even whether it is there."""
    find = pack("nodes.host.training").find_photographs
    root, inside = places.root, places.root / "input"
    save_photos(root / "secret")
    save_photos(root / "input-of-others")
    save_photos(root / "shared" / "below")
    (inside / "far").symlink_to(root / "secret", target_is_directory=True)
    for number, target in enumerate([root / "secret" / "photo0.png", root / "secret" / "absent.png"]):
        (inside / "photos" / f"link{number}.png").symlink_to(target)
    assert [path.name for path in find("photos")] == [f"photo{number}.png" for number in range(7)]
    assert find(str(inside / "photos")) == find("photos")
    sentences = set()
    for name in (root / "secret", root / "absent", root / "input-of-others", root / "shared", "far", "gone",
                 "../secret", "../absent", "photos/../../secret", "~", "~/absent", "/", "/etc", "."):  # fmt: skip
        if name == ".":
            assert len(find(name)) == 7
            continue
        with pytest.raises(refusal) as caught:
            find(str(name))
        sentences.add(re.sub("'[^']*'", "NAME", str(caught.value), count=1))  # long names are shown cut
    assert len(sentences) == 1


def test_the_owner_lists_folders_that_the_host_then_shows_to_nobody(pack, places, refusal, monkeypatch):
    import folder_paths

    module = pack("nodes.host.folders")
    monkeypatch.setattr(module, "_photo_folders", [])
    save_photos(places.root / "shared" / "below")
    folder_paths.add_model_folder_path("adadiffsr_photos", str(places.root / "shared"))
    module.take_photo_folders()
    assert "adadiffsr_photos" not in folder_paths.folder_names_and_paths
    find = pack("nodes.host.training").find_photographs
    assert find(str(places.root / "shared")) == find(str(places.root / "shared" / "below"))
    with pytest.raises(refusal, match="no folder of photographs"):
        find(str(places.root))


def test_pixels_are_kept_where_the_host_serves_none(pack, places):
    import folder_paths

    folder = pack("nodes.host.training").run_folder(places.file)
    for name in ("input", "output", "temp"):
        assert not Path(folder).resolve().is_relative_to(Path(folder_paths.get_directory_by_type(name)).resolve())
    assert folder.is_relative_to(places.root / "user" / "__adadiffsr")


def test_missing_packages_and_weights_are_named(pack, train, monkeypatch, refusal):
    module = pack("nodes.regressor")
    find = module.importlib.util.find_spec
    monkeypatch.setattr(module.importlib.util, "find_spec", lambda name: None if name == "cv2" else find(name))
    with pytest.raises(refusal, match=r"run `pip install opencv-python-headless` with ComfyUI's own"):
        train()
    monkeypatch.undo()


def test_damaged_photographs_are_logged_and_left_out(train, places, caplog):
    (places.root / "input" / "photos" / "page.png").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n{} loop\n")
    report = train().args[2]
    assert report.endswith("1 more files could not be read; the log names them.")
    assert [line for line in caplog.messages if "page.png" in line and line.endswith("it is left out")]


def test_other_photographs_are_noticed(pack, train, places, refusal):
    node = pack("nodes.training").TrainMmle
    before = node.fingerprint_inputs(**{name: SETTINGS[name] for name in ("image_folder", "steps")})
    train()
    (places.root / "input" / "photos" / "photo0.png").unlink()
    assert node.fingerprint_inputs(image_folder="photos") != before
    with pytest.raises(refusal, match=r"made with other photographs; choose another file_name, or remove that folder"):
        train()
    assert (
        train(file_name="other", image_folder=str(places.root / "input" / "photos"))
        .args[1]
        .endswith("other.safetensors")
    )
