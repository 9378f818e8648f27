"""The privilege of each system in the words of that system, and one table of all these forms."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

from remediator.privilege.cluster import kubernetes
from remediator.privilege.uses import Use, by_place, commented, traced

USER = "remediator"
"""Who we are where the connection does not say: a name of ours for the role, ACL user or system user."""

NOTHING = "no rule that is enabled needs any"


def iam(uses: Sequence[Use]) -> str:
    """A policy for each connection. JSON has no comments, so the Sid of a statement tells its sources."""
    told: list[str] = []
    for place, of_place in by_place(uses).items():
        found = traced((json.dumps(one), use.source) for use in of_place for one in use.needs.iam)
        if found:
            sids = _sids(list(found.values()))
            statements = [{"Sid": sid, **json.loads(one)} for sid, one in zip(sids, found, strict=True)]
            told.append(f"# {place}")
            told += [
                f"# {sid}: {source}"
                for sid, sources in zip(sids, found.values(), strict=True)
                for source in sources
            ]
            told.append(json.dumps({"Version": "2012-10-17", "Statement": statements}, indent=2))
    return _text(told)


def _sids(sources: Sequence[Sequence[str]]) -> list[str]:
    """Letters and digits only, and each different, as AWS asks."""
    sids: list[str] = []
    for of_one in sources:
        words = re.findall(r"[A-Za-z0-9]+", of_one[0].rsplit(" (", 1)[0])
        sid = "".join(word[0].upper() + word[1:] for word in words)
        more = sum(one == sid or re.fullmatch(f"{sid}N[0-9]+", one) is not None for one in sids)
        sids.append(f"{sid}N{more + 1}" if more else sid)
    return sids


def redis(uses: Sequence[Use]) -> str:
    """An ACL SETUSER for each server and user: an ACL holds for all databases of a server."""
    servers: dict[tuple[str, str], list[Use]] = {}
    for use in uses:
        if use.needs.redis:
            user = getattr(use.settings, "username", None) or USER
            servers.setdefault((_server(use), user), []).append(use)
    told: list[str] = []
    for (server, user), of_server in servers.items():
        places = ", ".join(by_place(of_server))
        named = all(getattr(use.settings, "username", None) for use in of_server)
        told.append(f"# {server} ({places}); its password is set apart, with ACL SETUSER {user} >...")
        told += [] if named else [f"# name it in the connection: username: {user}"]
        found = traced((one, use.source) for use in of_server for one in use.needs.redis)
        told += [f"# {one}  {source}" for one, sources in found.items() for source in sources]
        told.append(f"ACL SETUSER {user} on resetkeys resetchannels nocommands {_acl(of_server)}")
    return _text(told)


def _server(use: Use) -> str:
    url = urlsplit(str(getattr(use.settings, "url", use.place)))
    return f"{url.scheme}://{url.netloc}{url.path if url.scheme == 'unix' else ''}"


def _acl(uses: Sequence[Use]) -> str:
    """One list of rules where that gives nobody more than asked; else selectors, which Redis 7 knows."""
    keyed: dict[tuple[str, ...], dict[str, None]] = {}
    for use in uses:
        keys = tuple(sorted({one for one in use.needs.redis if one[0] in "~%"}))
        rest = [one for one in use.needs.redis if one[0] not in "~%"]
        keyed.setdefault(keys, {}).update(dict.fromkeys(rest))
    plain = list(keyed.pop((), {}))
    if len({tuple(sorted(rest)) for rest in keyed.values()}) <= 1:
        rest = [one for commands in keyed.values() for one in commands]
        return " ".join(dict.fromkeys([*plain, *rest, *(key for keys in keyed for key in keys)]))
    selectors = [f"({' '.join([*commands, *keys])})" for keys, commands in keyed.items()]
    return " ".join([*plain, "clearselectors", *selectors])


def postgres(uses: Sequence[Use]) -> str:
    """GRANT statements for the role of each connection, to be run in its database."""
    told: list[str] = []
    for place, of_place in by_place(uses).items():
        settings: Any = of_place[0].settings
        target: Mapping[str, Any] = getattr(settings, "target", {})
        user = '"' + str(target.get("user", USER)).replace('"', '""') + '"'
        found = traced(
            (f"GRANT {one} TO {user};", use.source) for use in of_place for one in use.needs.postgres
        )
        if found:
            where = getattr(settings, "place", place)
            told += [f"-- {place}: run in {where}, as who may grant it", *commented(found, "--")]
    return _text(told)


def systemd(uses: Sequence[Use]) -> str:
    """A polkit rule for each connection: JavaScript for /etc/polkit-1/rules.d/."""
    told: list[str] = []
    for place, of_place in by_place(uses).items():
        found = traced((_condition(one), use.source) for use in of_place for one in use.needs.systemd)
        if found:
            told += [
                f"// {place}",
                "polkit.addRule(function(action, subject) {",
                f"    if (subject.user !== {json.dumps(USER)}) {{ return polkit.Result.NOT_HANDLED; }}",
                *commented(found, "//", "    "),
                "    return polkit.Result.NOT_HANDLED;",
                "});",
            ]
    return _text(told)


def _condition(details: Mapping[str, str]) -> str:
    rest = dict(details)
    named = [rest.pop(key) for key in ("action", "action id", "action_id", "id") if key in rest]
    id_ = named[0] if named else "org.freedesktop.systemd1.manage-units"
    terms = [f"action.id === {json.dumps(id_)}"]
    terms += [f"action.lookup({json.dumps(key)}) === {json.dumps(value)}" for key, value in rest.items()]
    return f"if ({' && '.join(terms)}) {{ return polkit.Result.YES; }}"


def _listed(which: str) -> Callable[[Sequence[Use]], str]:
    def form(uses: Sequence[Use]) -> str:
        return _text(list(_lines(which, uses)))

    return form


def _lines(which: str, uses: Sequence[Use]) -> Iterator[str]:
    for place, of_place in by_place(uses).items():
        found = traced((one, use.source) for use in of_place for one in getattr(use.needs, which))
        if found:
            where = getattr(of_place[0].settings, "base_url", "") if which == "docker" else ""
            yield f"# {place}" + (f": {where}" if where else "")
            yield from commented(found, "#")


def _text(lines: Sequence[str]) -> str:
    return "".join(f"{line}\n" for line in lines)


FORMS: Mapping[str, tuple[str, str, Callable[[Sequence[Use]], str]]] = {
    "kubernetes": ("Kubernetes RBAC", "#", kubernetes),
    "iam": ("IAM policies", "#", iam),
    "redis": ("Redis ACL", "#", redis),
    "postgres": ("PostgreSQL grants", "--", postgres),
    "docker": ("Docker Engine API calls, for a socket proxy", "#", _listed("docker")),
    "systemd": ("polkit rules", "//", systemd),
    "files": ("Files", "#", _listed("files")),
    "http": ("HTTP", "#", _listed("http")),
    "other": ("What no server enforces", "#", _listed("other")),
}
"""Each form with its title and its mark of a comment. The names are the fields of `Permissions`."""


def render(uses: Sequence[Use], forms: Sequence[str]) -> str:
    """One form as it is, ready to be handed on; several under titles, without those that nothing needs."""
    if len(forms) == 1:
        _, mark, form = FORMS[forms[0]]
        return form(uses) or f"{mark} {NOTHING}\n"
    parts = [(FORMS[name][0], FORMS[name][2](uses)) for name in forms]
    told = "\n".join(f"## {title}\n\n{text}" for title, text in parts if text)
    return told or f"# {NOTHING}\n"
