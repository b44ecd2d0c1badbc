"""The recipes of an accelerator are changes of the shipped ones that fit them."""

from pathlib import Path

from adadiffsr_core.training.recipe import AutoencoderRecipe, LdmRecipe, read_recipe
from scripts.device.train import build_parser, read_lease

RECIPES = Path(__file__).parents[2] / "scripts" / "device" / "recipes"


def test_they_fit_the_shipped_recipes():
    for kind, recipe in (("autoencoder", AutoencoderRecipe), ("ldm", LdmRecipe)):
        shipped = recipe.from_dict(read_recipe(kind, None, {}, {}))
        changed = recipe.from_dict(read_recipe(kind, RECIPES / f"{kind}.json", {"steps": None, "minutes": 5.0}, {}))
        assert changed.net == shipped.net
        assert changed.task.batch_size > shipped.task.batch_size


def test_they_are_taken_on_an_accelerator_alone(tmp_path):
    (tmp_path / "photos").mkdir()
    for device, found in (("cuda", True), ("cpu", False)):
        lease = read_lease(build_parser().parse_args([str(tmp_path), "out", "--device", device]))
        assert {config is not None for config in lease.configs.values()} == {found}
