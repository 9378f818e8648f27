"""Which servers are built from Go modules, at which version, and how their builds differ from plain ones."""

from dataclasses import dataclass, field

KUBERNETES = "v1.36.3"


@dataclass(frozen=True, eq=False)
class Recipe:
    """One Go module and the programs that are built from it.

    `programs` maps a program's name to its package's path within the module; `version_of` maps it to the argument
    that makes it print its version and the text that must be in there, for one already on PATH to be used.
    `stamps` are `-X` assignments that tell the program its own version.
    """

    name: str
    module: str
    version: str
    programs: dict[str, str]
    version_of: dict[str, tuple[str, str]]
    stamps: dict[str, str] = field(default_factory=dict)
    tags: tuple[str, ...] = ()
    staging_version: str | None = None
    """Where the module's go.mod has v0.0.0 (its own monorepo): the published version to take instead."""
    stubs: dict[str, str] = field(default_factory=dict)
    """Files that its build embeds and that the published module lacks: with them it is built in a copy."""

    @property
    def key(self) -> str:
        """The name of its folder in the cache."""
        return f"{self.name}-{self.version}"


TOXIPROXY = Recipe(
    name="toxiproxy",
    module="github.com/Shopify/toxiproxy/v2",
    version="v2.5.0",
    programs={"toxiproxy-server": "cmd/server"},
    version_of={"toxiproxy-server": ("-version", "2.5.0")},
    stamps={"github.com/Shopify/toxiproxy/v2.Version": "2.5.0"},
)
COMPOSE = Recipe(
    name="compose",
    module="github.com/docker/compose/v2",
    version="v2.40.3",
    programs={"docker-compose": "cmd"},
    version_of={"docker-compose": ("version", "v2.40.3")},
    stamps={"github.com/docker/compose/v2/internal.Version": "v2.40.3"},
)
MINIO = Recipe(
    name="minio",
    module="github.com/minio/minio",
    version="v0.0.0-20260212201848-7aac2a2c5b7c",
    programs={"minio": "."},
    version_of={"minio": ("--version", "minio version")},
    stamps={
        "github.com/minio/minio/cmd.Version": "2026-02-12T20:18:48Z",
        "github.com/minio/minio/cmd.ReleaseTag": "RELEASE.2026-02-12T20-18-48Z",
    },
)
KWOK = Recipe(
    name="kwok",
    module="sigs.k8s.io/kwok",
    version="v0.8.0",
    programs={"kwok": "cmd/kwok"},
    version_of={"kwok": ("--version", "0.8.0")},
)
PROMETHEUS = Recipe(
    name="prometheus",
    module="github.com/prometheus/prometheus",
    version="v0.316.0",
    programs={"promtool": "cmd/promtool", "prometheus": "cmd/prometheus"},
    version_of={"promtool": ("--version", "version 3.16."), "prometheus": ("--version", "version 3.16.")},
    stamps={"github.com/prometheus/common/version.Version": "3.16.0"},
    # Without the clouds' service discoveries, whose libraries are most of the build.
    tags=("remove_all_sd",),
)
KUBERNETES_SERVERS = Recipe(
    name="kubernetes",
    module="k8s.io/kubernetes",
    version=KUBERNETES,
    programs={
        name: f"cmd/{name}" for name in ("kube-apiserver", "kube-controller-manager", "kube-scheduler")
    },
    version_of=dict.fromkeys(
        ("kube-apiserver", "kube-controller-manager", "kube-scheduler"),
        ("--version", f"Kubernetes {KUBERNETES}"),
    ),
    stamps={
        f"{package}.{name}": value
        for package in ("k8s.io/component-base/version", "k8s.io/client-go/pkg/version")
        for name, value in (("gitVersion", KUBERNETES), ("gitMajor", "1"), ("gitMinor", "36"))
    },
    staging_version="v0.36.3",
)
ALERTMANAGER = Recipe(
    name="alertmanager",
    module="github.com/prometheus/alertmanager",
    version="v0.34.2",
    programs={"alertmanager": "cmd/alertmanager", "amtool": "cmd/amtool"},
    version_of={"alertmanager": ("--version", "version 0.34."), "amtool": ("--version", "version 0.34.")},
    stamps={"github.com/prometheus/common/version.Version": "0.34.2"},
    stubs={"ui/app/dist/index.html": "<!doctype html><title>Alertmanager</title>\n"},
)

RECIPES = (TOXIPROXY, COMPOSE, MINIO, KWOK, PROMETHEUS, KUBERNETES_SERVERS, ALERTMANAGER)
"""All of them, the quick and the most needed ones first."""


def recipe_of(name: str) -> Recipe:
    """Return the recipe of that name, or the one that builds the program of that name."""
    for recipe in RECIPES:
        if name == recipe.name or name in recipe.programs:
            return recipe
    known = [known for recipe in RECIPES for known in (recipe.name, *recipe.programs)]
    raise KeyError(f"no tool {name!r}; there are {', '.join(sorted(set(known)))}")
