"""The servers that are built from Go modules are there, in the versions that are asked for."""

import subprocess

import pytest

from tests.support.tools.build import cache_folder, tool
from tests.support.tools.recipes import RECIPES, Recipe, recipe_of

PROGRAMS = [pytest.param(recipe, name, id=name) for recipe in RECIPES for name in recipe.programs]


@pytest.mark.parametrize(("recipe", "name"), PROGRAMS)
def test_program_tells_its_version(recipe: Recipe, name: str) -> None:
    """Each program runs and tells the version that its recipe names."""
    argument, wanted = recipe.version_of[name]

    told = subprocess.run([tool(name), argument], capture_output=True, text=True, check=False, timeout=60)

    assert wanted in told.stdout + told.stderr


def test_recipe_by_either_name() -> None:
    """A recipe is found by its own name and by a program's; an unknown name is told with those that exist."""
    assert recipe_of("kubernetes") is recipe_of("kube-scheduler")
    with pytest.raises(KeyError, match="no tool 'kube-proxy'; there are alertmanager, amtool"):
        recipe_of("kube-proxy")


def test_wrong_version_on_path_is_not_taken(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A program of another version on PATH is passed over for the one in the cache."""
    folder = tmp_path_factory.mktemp("path")
    other = folder / "toxiproxy-server"
    other.write_text("#!/bin/sh\necho 1.0.0\n")
    other.chmod(0o755)
    monkeypatch.setenv("PATH", str(folder), prepend=":")
    tool.cache_clear()

    assert cache_folder() / "toxiproxy-v2.5.0" / "toxiproxy-server" == tool("toxiproxy-server")
