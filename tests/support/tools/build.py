"""Builds the servers that exist only as Go modules, and a Debian with systemd, once, into a cache of the user.

    python -m tests.support.tools.build              all of them
    python -m tests.support.tools.build compose kwok  these
    python -m tests.support.tools.build --list        what there is, and where

Each is built in a module of our own that requires just it, at a fixed version; Go checks every source against its
checksum database. A folder of the cache is there only when its build is complete, and a lock lets parallel test
workers build one thing once.
"""

import argparse
import contextlib
import fcntl
import functools
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from tests.support.tools.golang import BuildFailedError, find_go, module_file, run
from tests.support.tools.recipes import RECIPES, Recipe, recipe_of

PLUGINS = (
    "/usr/libexec/docker/cli-plugins",
    "/usr/lib/docker/cli-plugins",
    "/usr/local/lib/docker/cli-plugins",
)
"""Where packages put docker-compose, which is not on PATH."""


def cache_folder() -> Path:
    """Return the user's cache of built tools, making it if needed."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    folder = Path(base) / "remediator-tools"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@functools.cache
def tool(name: str) -> Path:
    """Return the path of a program, such as `kube-apiserver`: on PATH in the right version, cached, or built now."""
    recipe = recipe_of(name)
    if name not in recipe.programs:
        raise KeyError(f"{name!r} is a recipe; its programs are {', '.join(recipe.programs)}")
    return _installed(recipe, name) or build(recipe) / name


def built(recipe: Recipe) -> Path | None:
    """Return the folder of a recipe's programs if it is in the cache."""
    folder = cache_folder() / recipe.key
    return folder if folder.is_dir() else None


def build(recipe: Recipe) -> Path:
    """Return the folder of a recipe's programs, building them if they are not in the cache."""
    folder = cache_folder() / recipe.key
    if folder.is_dir():
        return folder
    with _lock(cache_folder() / f"{recipe.key}.lock"):
        if not folder.is_dir():  # another worker may have built it while we waited
            _build_into(folder, recipe)
    return folder


def _build_into(folder: Path, recipe: Recipe) -> None:
    cache = cache_folder()
    go = find_go(cache)
    with tempfile.TemporaryDirectory(dir=cache, prefix=f".{recipe.name}-") as work:
        source, out = Path(work) / "src", Path(work) / "out"
        source.mkdir()
        out.mkdir()
        module = _download(go, source, recipe)
        if recipe.stubs:
            prefix = "./"
            _copy_with_stubs(module, source, recipe)
        else:
            prefix = f"{recipe.module}/"
            _write_module(go, source, module, recipe)
        stamps = " ".join(f"-X {name}={value}" for name, value in recipe.stamps.items())
        for program, package in recipe.programs.items():
            what = (prefix + package).removesuffix("/.")
            options = ["-mod=mod", "-trimpath", f"-tags={','.join(recipe.tags)}", f"-ldflags=-s -w {stamps}"]
            run([go, "build", *options, "-o", out / program, what], cwd=source, env=_environment())
        out.rename(folder)


def _environment() -> dict[str, str]:
    # The machine's own GOFLAGS (such as -p=1) stay; a workspace around the cache must not reach into the build.
    return {"CGO_ENABLED": "0", "GOWORK": "off"}


def _download(go: Path, source: Path, recipe: Recipe) -> Path:
    told = run(
        [go, "mod", "download", "-json", f"{recipe.module}@{recipe.version}"], cwd=source, env=_environment()
    )
    return Path(json.loads(told)["Dir"])


def _write_module(go: Path, source: Path, module: Path, recipe: Recipe) -> None:
    """Write a go.mod that requires the module and repeats what Go honours in a main module only."""
    theirs = module_file(go, module / "go.mod")
    lines = [
        "module remediator.test/tools",
        f"go {theirs['Go']}",
        f"require {recipe.module} {recipe.version}",
    ]
    lines += [f"exclude {one['Path']} {one['Version']}" for one in theirs.get("Exclude") or ()]
    for one in theirs.get("Require") or ():
        if one["Version"] == "v0.0.0" and recipe.staging_version:
            lines.append(f"replace {one['Path']} => {one['Path']} {recipe.staging_version}")
    (source / "go.mod").write_text("\n".join(lines) + "\n")


def _copy_with_stubs(module: Path, source: Path, recipe: Recipe) -> None:
    shutil.copytree(module, source, dirs_exist_ok=True)
    for path in (source, *source.rglob("*")):  # the module cache is read-only, and so is a copy of it
        path.chmod(path.stat().st_mode | 0o200)
    for name, text in recipe.stubs.items():
        stub = source / name
        stub.parent.mkdir(parents=True, exist_ok=True)
        stub.write_text(text)


def _installed(recipe: Recipe, name: str) -> Path | None:
    """Return the program on PATH (or among docker's plugins) if it tells the right version."""
    argument, wanted = recipe.version_of[name]
    path = os.pathsep.join((os.environ.get("PATH", os.defpath), *PLUGINS))
    found = shutil.which(name, path=path)
    if found is None:
        return None
    try:
        told = subprocess.run([found, argument], capture_output=True, text=True, check=False, timeout=20)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return Path(found) if wanted in told.stdout + told.stderr else None


@contextlib.contextmanager
def _lock(path: Path) -> Iterator[None]:
    with path.open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def main(arguments: list[str]) -> int:
    """Build what is named, or everything, and tell how long each took. Returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m tests.support.tools.build", description=__doc__)
    parser.add_argument(
        "names", nargs="*", metavar="NAME", help="a recipe or a program; all if none is named"
    )
    parser.add_argument("--list", action="store_true", help="only tell what there is")
    options = parser.parse_args(arguments)
    recipes = (
        list(dict.fromkeys(recipe_of(name) for name in options.names)) if options.names else list(RECIPES)
    )
    failed = 0
    for recipe in recipes:
        ready = all(_installed(recipe, name) for name in recipe.programs)
        if options.list or ready:
            where = "on PATH" if ready else built(recipe) or "not built"
            print(f"{recipe.key}: {', '.join(recipe.programs)}: {where}", flush=True)
            continue
        began = time.monotonic()
        try:
            folder = build(recipe)
        except BuildFailedError as error:
            failed += 1
            print(
                f"{recipe.key}: FAILED after {time.monotonic() - began:.0f} s\n{error}",
                file=sys.stderr,
                flush=True,
            )
            continue
        print(f"{recipe.key}: {folder} ({time.monotonic() - began:.0f} s)", flush=True)
    if not options.names and not options.list:
        failed += _systemd_tree()
    return 1 if failed else 0


def _systemd_tree() -> int:
    """Make the tree that the tests of units boot, where that can be done: by root, with debootstrap."""
    from tests.support.systemd_tree import systemd_tree

    if os.geteuid() != 0 or shutil.which("debootstrap") is None:
        print("systemd tree: not made: it needs root and debootstrap", flush=True)
        return 0
    began = time.monotonic()
    try:
        tree = systemd_tree()
    except (RuntimeError, subprocess.TimeoutExpired) as error:
        print(
            f"systemd tree: FAILED after {time.monotonic() - began:.0f} s\n{error}",
            file=sys.stderr,
            flush=True,
        )
        return 1
    print(f"systemd tree: {tree} ({time.monotonic() - began:.0f} s)", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
