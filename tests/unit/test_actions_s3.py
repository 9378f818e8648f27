"""What the S3 actions plan and allow, and how keys become paths; no server is asked."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from remediator.actions.s3 import (
    PutLifecycle,
    PutLifecycleParams,
    RestoreFromGlacier,
    RestoreFromGlacierParams,
    RestoreVersion,
    RestoreVersionParams,
    S3Connection,
    SyncAside,
    SyncAsideParams,
    Upload,
    UploadParams,
)
from remediator.actions.s3.glacier import Archived
from remediator.actions.s3.lifecycle import SeenRules, same
from remediator.actions.s3.listing import Listed, digest, manifest, relative
from remediator.actions.s3.sync import SeenPrefix
from remediator.actions.s3.upload import SeenFile, key_of
from remediator.actions.s3.versions import LARGEST_COPY_BYTES, SeenVersions, Version
from remediator.domain.plans import Progress
from remediator.errors import NothingSelected, Refused

SETTINGS: dict[str, Any] = {
    "kind": "s3",
    "endpoint_url": "http://127.0.0.1:9000/",
    "buckets": {"backups": {"prefixes": ["data/"], "min_expire_days": 30}},
    "live_folders": {"set": "/srv/live"},
    "sources": {"dumps": "/srv/dumps"},
}
CONNECTION = S3Connection.model_validate(SETTINGS)
WHERE: dict[str, Any] = {"connection": "s", "bucket": "backups"}
SHA = "a" * 64


@pytest.mark.parametrize(
    "change",
    [
        pytest.param({"buckets": {}}, id="no-bucket"),
        pytest.param({"buckets": {"b": {"prefixes": ["x/"]}}}, id="short-name"),
        pytest.param({"buckets": {"backups": {"prefixes": []}}}, id="no-prefix"),
        pytest.param({"buckets": {"backups": {"prefixes": [""]}}}, id="everything"),
        pytest.param({"buckets": {"backups": {"prefixes": ["data"]}}}, id="half-a-name"),
        pytest.param({"buckets": {"backups": {"prefixes": ["data/*/"]}}}, id="wildcard"),
        pytest.param({"buckets": {"backups": {"prefixes": ["data/../x/"]}}}, id="dots"),
        pytest.param({"endpoint_url": "file:///etc"}, id="no-http"),
        pytest.param({"endpoint_url": "http://user:pass@host/"}, id="password-in-url"),
        pytest.param({"live_folders": {"x": "live"}}, id="relative-folder"),
        pytest.param({"secret_key": "x"}, id="secret-in-file"),
    ],
)
def test_a_connection_that_would_allow_too_much_is_wrong(change: dict[str, Any]) -> None:
    """Prefixes end in `/` and hold no pattern, folders are absolute, and secrets are in files."""
    with pytest.raises(ValidationError):
        S3Connection.model_validate({**SETTINGS, **change})


@given(st.text(alphabet="ab./\0\n", max_size=12))
def test_a_key_never_leads_out_of_the_folder(rest: str) -> None:
    """Whatever key is accepted gives a path below the folder, none of whose parts is special."""
    try:
        parts, _ = relative(f"data/{rest}", "data/")
    except Refused:
        return

    assert "/".join(parts) == rest.rstrip("/")
    assert not {"", ".", ".."} & set(parts)
    assert PurePosixPath("x", *parts).is_relative_to("x")
    assert not any("\0" in part or "\n" in part for part in parts)


@pytest.mark.parametrize(
    "key",
    ["data/../x", "data//x", "data/./x", "/etc/passwd", "other/x", "data/x//", "data//", "data/" + "a" * 256],
)
def test_keys_that_are_no_paths(key: str) -> None:
    """They are refused, and with them the whole listing."""
    with pytest.raises(Refused):
        relative(key, "data/")


def test_a_manifest_is_what_sha256sum_writes() -> None:
    """Both of its notations are read, empty lines passed over; anything else is refused."""
    told = manifest(f"{SHA}  a.bin\n\n{SHA} *sub/b.bin\n{SHA}  ./c d.bin\n")
    for wrong in ("a.bin", f"{SHA[:-1]}  a", f"{SHA}  ../a", f"{SHA}  /etc/passwd", f"{SHA} "):
        with pytest.raises(Refused):
            manifest(wrong)

    assert {("a.bin",): SHA, ("sub", "b.bin"): SHA, ("c d.bin",): SHA} == told


def listed(key: str, size: int = 10, etag: str = "e") -> Listed:
    """An object below data/."""
    parts, folder = relative(key, "data/")
    return Listed(key, parts, folder, size, etag)


def test_a_listing_is_told_by_what_is_in_it() -> None:
    """The order does not matter; a key, a size or an ETag does."""
    one, two = listed("data/a"), listed("data/b")

    assert digest([one, two]) == digest([two, one])
    assert 4 == len(
        {
            digest([one, two]),
            digest([one]),
            digest([one, replace(two, size_bytes=9)]),
            digest([one, replace(two, etag="f")]),
        }
    )


def prefix(*objects: Listed, live: str = "1:2", asides: dict[str, str] | None = None) -> SeenPrefix:
    """What a look found."""
    return SeenPrefix(objects, digest(objects), live, 7, asides or {})


def test_a_sync_tells_what_replaces_what() -> None:
    """Figures of both sides, the folder that is kept, and the way back."""
    action, params = SyncAside(CONNECTION), SyncAsideParams(**WHERE, prefix="data/", folder="set")
    seen = prefix(listed("data/a"), listed("data/b/", 0))
    (effect,) = action.plan(params, seen)
    aside = effect.after["aside"]

    assert {"objects": 1, "bytes": 10, "live_files": 7} == effect.figures
    assert "without a manifest" in effect.summary
    assert aside in effect.undo
    assert Progress.UNTOUCHED is action.progress(effect, seen)
    assert Progress.DONE is action.progress(effect, prefix(live="1:3", asides={aside: "1:2"}))
    assert Progress.UNCLEAR is action.progress(effect, prefix(live="1:3"))
    assert Progress.UNCLEAR is action.progress(effect, prefix(listed("data/a", 11)))


def test_an_empty_prefix_and_too_much_are_no_plan() -> None:
    """Nothing below the prefix never means an empty folder."""
    action, params = (
        SyncAside(CONNECTION),
        SyncAsideParams(**WHERE, prefix="data/", folder="set", max_bytes=9),
    )
    with pytest.raises(NothingSelected, match="the live folder stays"):
        action.plan(params, prefix(listed("data/b/", 0)))
    with pytest.raises(Refused, match="above 9 B"):
        action.plan(params, prefix(listed("data/a")))
    with pytest.raises(Refused, match="not among the live folders"):
        action.plan(params.model_copy(update={"folder": "other"}), prefix(listed("data/a", 1)))


def version(id_: str, size: int = 10, *, deleted: bool = False) -> Version:
    """A version."""
    return Version(id_, "" if deleted else "e", size, "2026-01-15T12:00:00+00:00", deleted)


def test_the_newest_earlier_version_is_taken_or_the_one_that_is_named() -> None:
    """The plan holds the ids of both; the undo names the way back."""
    action, params = RestoreVersion(CONNECTION), RestoreVersionParams(**WHERE, key="data/x")
    seen = SeenVersions(versioned=True, current=version("v3"), earlier=(version("v2"), version("v1")))
    (newest,) = action.plan(params, seen)
    (named,) = action.plan(params.model_copy(update={"version_id": "v1"}), seen)
    (gone,) = action.plan(params, replace(seen, current=version("m", deleted=True)))

    assert {"current": "v3", "deleted": False, "source": "v2"} == newest.before
    assert "v1" == named.before["source"]
    assert "copy the version v3 back over it" == newest.undo
    assert "delete it again (a delete marker)" == gone.undo
    assert Progress.UNTOUCHED is action.progress(newest, seen)
    done = replace(seen, current=version("v4"), restored_from="v2", replaced="v3")
    assert Progress.DONE is action.progress(newest, done)
    assert Progress.UNCLEAR is action.progress(newest, replace(seen, current=version("v4")))


@pytest.mark.parametrize(
    ("seen", "error"),
    [
        pytest.param(
            SeenVersions(versioned=False, current=version("1"), earlier=()), Refused, id="unversioned"
        ),
        pytest.param(SeenVersions(versioned=True, current=None, earlier=()), NothingSelected, id="no-object"),
        pytest.param(
            SeenVersions(versioned=True, current=version("1"), earlier=()), NothingSelected, id="no-earlier"
        ),
        pytest.param(
            SeenVersions(versioned=True, current=version("2"), earlier=(version("1"),), restored_from="1"),
            NothingSelected,
            id="restored-already",
        ),
        pytest.param(
            SeenVersions(
                versioned=True, current=version("2"), earlier=(version("1", LARGEST_COPY_BYTES + 1),)
            ),
            Refused,
            id="too-large",
        ),
    ],
)
def test_versions_that_are_not_restored(seen: SeenVersions, error: type[Exception]) -> None:
    """Where the present one would be lost, or there is nothing to restore."""
    with pytest.raises(error):
        RestoreVersion(CONNECTION).plan(RestoreVersionParams(**WHERE, key="data/x"), seen)


def test_the_key_of_an_upload_is_its_own() -> None:
    """Name, time and content make the key: the same file has the same one, another content another."""
    first = key_of("data/", "db.dump", 1_768_478_400 * 10**9, SHA)

    assert f"data/db_20260115T120000Z_{SHA[:16]}.dump" == first
    assert first != key_of("data/", "db.dump", 1_768_478_400 * 10**9, "b" * 64)


def test_an_upload_is_planned_once() -> None:
    """What is there already is no change; an empty or too large file is refused."""
    action = Upload(CONNECTION)
    params = UploadParams(**WHERE, prefix="data/", source="dumps", file="db.dump")
    seen = SeenFile(100, SHA, "data/db_x.dump", there=False, checksum="")
    (effect,) = action.plan(params, seen)
    (again,) = action.plan(params, replace(seen, there=True))
    for size in (0, 6 * 10**9):
        with pytest.raises(Refused):
            action.plan(params, replace(seen, size_bytes=size))

    assert (100, 0) == (effect.figures["bytes"], again.figures["bytes"])
    assert Progress.UNTOUCHED is action.progress(effect, seen)
    assert Progress.DONE is action.progress(effect, replace(seen, there=True))
    assert Progress.UNCLEAR is action.progress(effect, replace(seen, sha256="b" * 64))


@pytest.mark.parametrize(
    "params",
    [
        pytest.param({}, id="says-nothing"),
        pytest.param({"transition_days": 90}, id="days-without-class"),
        pytest.param({"storage_class": "GLACIER"}, id="class-without-days"),
        pytest.param(
            {"transition_days": 90, "storage_class": "GLACIER", "expire_days": 90}, id="expires-first"
        ),
        pytest.param({"transition_days": 90, "storage_class": "FLOPPY"}, id="unknown-class"),
        pytest.param({"expire_days": 0}, id="at-once"),
        pytest.param({"expire_days": 365, "prefix": ""}, id="whole-bucket"),
        pytest.param({"expire_days": 365, "rule_id": "a b"}, id="odd-name"),
    ],
)
def test_rules_that_make_no_sense(params: dict[str, Any]) -> None:
    """They are refused before anything is looked at."""
    with pytest.raises(ValidationError):
        PutLifecycleParams.model_validate({**WHERE, "rule_id": "r", "prefix": "data/", **params})


def test_a_rule_is_added_beside_the_others() -> None:
    """What only moves is reversible, what expires is not; the same rule is nothing selected."""
    action = PutLifecycle(CONNECTION)
    moves = PutLifecycleParams(
        **WHERE, rule_id="r", prefix="data/", transition_days=90, storage_class="GLACIER"
    )
    expires = moves.model_copy(update={"expire_days": 365})
    other = {"ID": "other", "Status": "Enabled", "Filter": {"Prefix": "x/"}, "Expiration": {"Days": 9}}
    seen = SeenRules((other,))
    (first,) = action.plan(moves, seen)
    (second,) = action.plan(expires, SeenRules((other, moves.rule())))
    with pytest.raises(NothingSelected):
        action.plan(moves, SeenRules((other, moves.rule())))

    assert (False, True) == (first.irreversible, second.irreversible)
    assert first.summary.startswith("add ")
    assert second.summary.startswith("replace ")
    assert {"other_rules": 1} == first.figures == second.figures
    assert "remove the rule" == first.undo
    assert Progress.UNTOUCHED is action.progress(first, seen)
    assert Progress.DONE is action.progress(first, SeenRules((moves.rule(),)))
    assert Progress.UNCLEAR is action.progress(first, SeenRules(()))


def test_rules_are_the_same_however_they_are_written() -> None:
    """An empty setting, or a prefix in the old place, makes no difference; days do."""
    rule = {"ID": "r", "Status": "Enabled", "Filter": {"Prefix": "data/"}, "Expiration": {"Days": 9}}

    assert same(rule, {**rule, "Transitions": []})
    assert same(rule, {"ID": "r", "Status": "Enabled", "Prefix": "data/", "Expiration": {"Days": 9}})
    assert not same(rule, {**rule, "Expiration": {"Days": 8}})
    assert not same(rule, {**rule, "Filter": {"Prefix": "other/"}})


def test_only_what_is_archived_is_asked_for() -> None:
    """One effect a key, none for what was asked for or is not archived."""
    action = RestoreFromGlacier(CONNECTION)
    params = RestoreFromGlacierParams(**WHERE, keys=("data/a", "data/b", "data/c"), days=7)
    seen = {
        "data/a": Archived("e", 10, "GLACIER", "none"),
        "data/b": Archived("e", 10, "GLACIER", "ongoing"),
        "data/c": Archived("e", 10, "STANDARD", "none"),
    }
    (effect,) = action.plan(params, seen)

    assert "s3://backups/data/a" == effect.subject
    assert Progress.UNTOUCHED is action.progress(effect, seen)
    assert Progress.DONE is action.progress(effect, {"data/a": Archived("e", 10, "GLACIER", "there")})
    assert Progress.UNCLEAR is action.progress(effect, {"data/a": Archived("f", 10, "GLACIER", "there")})
    for wrong in ((), ("data/*",), ("data/../x",), tuple(f"data/{n}" for n in range(101))):
        with pytest.raises(ValidationError):
            RestoreFromGlacierParams(**WHERE, keys=wrong, days=7)


def test_permissions_name_just_the_prefix() -> None:
    """The policy holds the bucket, the prefix, and nothing that deletes, except where an undo has to."""
    upload = Upload(CONNECTION).permissions(
        UploadParams(**WHERE, prefix="data/dumps/", source="dumps", file="db.dump")
    )
    sync = SyncAside(CONNECTION).permissions(SyncAsideParams(**WHERE, prefix="data/", folder="set"))

    assert ["s3:PutObject", "s3:GetObject"] == upload.iam[1]["Action"]
    assert ["arn:aws:s3:::backups/data/dumps/*"] == upload.iam[1]["Resource"]
    assert {"StringLike": {"s3:prefix": ["data/*"]}} == sync.iam[0]["Condition"]
    assert (f"rw {Path('/srv')}/",) == sync.files
