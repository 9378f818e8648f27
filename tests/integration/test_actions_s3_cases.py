"""What the S3 actions do with many pages, damaged objects, delete markers, and buckets that are not as they should be."""

from __future__ import annotations

import hashlib
import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from remediator.domain.plans import Effect
from remediator.errors import Drifted, NothingSelected, PermanentFailure, Refused, TemporaryFailure
from tests.support.minio import MinioServer
from tests.support.moto import MotoServer
from tests.support.mounts import small_disk
from tests.support.ports import free_port
from tests.support.s3_cases import Account, Case, put_lifecycle, restore_version, sync_aside, tree, upload
from tests.support.s3_cases import restore_from_glacier as glacier

pytest_plugins = ["tests.support.moto_fixtures"]

MIB = 2**20


@pytest.fixture
def account(minio_server: MinioServer, tmp_path: Path) -> Account:
    """The worker's MinIO."""
    return Account(minio_server.url, minio_server.access_key, minio_server.secret_key, tmp_path)


async def effects_of(case: Case, **others: Any) -> tuple[Effect, ...]:
    """Observe and plan; the effects as they come back from the ledger."""
    action, params = case.make(), case.parameters(**others)
    try:
        effects = action.plan(params, await action.observe(params))
    finally:
        await action.close()
    return tuple(Effect(**json.loads(json.dumps(asdict(effect)))) for effect in effects)


async def applied(case: Case, effect: Effect) -> Any:
    """Apply, on a connection of its own."""
    action = case.make()
    try:
        return await action.apply(effect)
    finally:
        await action.close()


async def test_a_listing_has_more_than_one_page(account: Account, tmp_path: Path) -> None:
    """1,005 objects, five more than a page holds, are all planned and all fetched."""
    case = sync_aside(account, tmp_path)
    client = account.client()

    def put(number: int) -> None:
        client.put_object(Bucket=case.bucket, Key=f"data/many/{number:04}.txt", Body=b"%d" % number)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(put, range(1005)))
    del case.params["manifest"]
    (effect,) = await effects_of(case, prefix="data/many/")
    result = await applied(case, effect)

    assert 1005 == effect.figures["objects"] == result.evidence["objects"]
    assert {f"{n:04}.txt": b"%d" % n for n in range(1005)} == case.look()["live"]


@pytest.mark.parametrize("fault", ["damaged", "missing", "more"])
async def test_a_set_that_is_not_what_its_manifest_says_is_not_swapped_in(
    fault: str, account: Account, tmp_path: Path
) -> None:
    """An object that is damaged, missing, or not in the manifest leaves the live folder as it was, and nothing aside."""
    case = sync_aside(account, tmp_path)
    client, before = account.client(), case.look()
    if fault == "damaged":
        client.put_object(Bucket=case.bucket, Key="data/set/a.bin", Body=b"x" * 100_000)
    elif fault == "missing":
        client.delete_object(Bucket=case.bucket, Key="data/set/sub/b.bin")
    else:
        client.put_object(Bucket=case.bucket, Key="data/set/planted.bin", Body=b"x")
    (effect,) = await effects_of(case)
    with pytest.raises(PermanentFailure, match=r"SHA-256 is another|SHA256SUMS: "):
        await applied(case, effect)

    assert before == case.look()
    assert ["live"] == [path.name for path in (tmp_path / "datasets").iterdir()]


async def test_an_object_that_rots_on_the_server_is_noticed(
    account: Account, tmp_path: Path, minio_server: MinioServer
) -> None:
    """Bytes that were changed on the server's own disk never reach the live folder."""
    case = sync_aside(account, tmp_path)
    before = case.look()
    (effect,) = await effects_of(case)
    for part in (minio_server.folder / "data" / case.bucket).rglob("xl.meta"):
        stored = part.read_bytes()
        part.write_bytes(stored.replace(b"a" * 64, b"z" * 64))
    for part in (minio_server.folder / "data" / case.bucket / "data/set/a.bin").rglob("part.*"):
        part.write_bytes(part.read_bytes().replace(b"a" * 64, b"z" * 64))
    with pytest.raises((PermanentFailure, TemporaryFailure)):
        await applied(case, effect)

    assert before == case.look()


async def test_an_object_in_parts_is_checked_by_its_checksum(account: Account, tmp_path: Path) -> None:
    """An ETag of an upload in parts is no MD5: then its checksum counts, and where it has none of the whole, the
    evidence says that only the size was checked.
    """
    case, client = sync_aside(account, tmp_path), account.client()
    for key, more in (("whole", {"ChecksumType": "FULL_OBJECT", "ChecksumAlgorithm": "CRC32"}), ("size", {})):
        where = {"Bucket": case.bucket, "Key": f"data/parts/{key}"}
        id_ = client.create_multipart_upload(**where, **more)["UploadId"]
        check = {"ChecksumAlgorithm": "CRC32"} if more else {}
        part = client.upload_part(**where, UploadId=id_, PartNumber=1, Body=b"p" * MIB, **check)
        told = {"PartNumber": 1, "ETag": part["ETag"]}
        if more:
            told["ChecksumCRC32"] = part["ChecksumCRC32"]
        client.complete_multipart_upload(
            **where,
            UploadId=id_,
            MultipartUpload={"Parts": [told]},
            **({"ChecksumType": "FULL_OBJECT"} if more else {}),
        )
    del case.params["manifest"]
    (effect,) = await effects_of(case, prefix="data/parts/")
    result = await applied(case, effect)

    assert {"size": b"p" * MIB, "whole": b"p" * MIB} == case.look()["live"]
    assert 1 == result.evidence["checked_by_size_only"]


async def test_objects_that_change_meanwhile_are_drift(account: Account, tmp_path: Path) -> None:
    """When anything below the prefix was written after the plan, nothing is fetched."""
    case = sync_aside(account, tmp_path)
    before = case.look()
    (effect,) = await effects_of(case)
    account.client().put_object(Bucket=case.bucket, Key="data/set/new.bin", Body=b"new")
    with pytest.raises(Drifted, match="has changed"):
        await applied(case, effect)

    assert before == case.look()


async def test_an_empty_prefix_never_empties_the_live_folder(account: Account, tmp_path: Path) -> None:
    """Nothing below the prefix is nothing selected."""
    case = sync_aside(account, tmp_path)
    with pytest.raises(NothingSelected, match="the live folder stays"):
        await effects_of(case, prefix="data/nothing/")


async def test_a_full_disk_leaves_the_live_folder(account: Account, tmp_path: Path) -> None:
    """Without room for a second copy nothing is fetched; and a disk that is full sooner than told leaves nothing."""
    with small_disk(tmp_path / "disk", 4 * MIB) as disk:
        case = sync_aside(account, disk)
        (effect,) = await effects_of(case)
        before = case.look()
        (disk / "filler").write_bytes(b"x" * (4 * MIB - 80_000))
        with pytest.raises(PermanentFailure, match=r"no room|No space left"):
            await applied(case, effect)

        assert before == case.look()
        assert ["live"] == [path.name for path in (disk / "datasets").iterdir()]


async def test_a_live_folder_that_is_a_link_is_refused(account: Account, tmp_path: Path) -> None:
    """A live folder that has become a link is neither fetched for nor swapped."""
    case = sync_aside(account, tmp_path)
    (effect,) = await effects_of(case)
    live = tmp_path / "datasets" / "live"
    live.rename(tmp_path / "elsewhere")
    live.symlink_to(tmp_path / "elsewhere")
    before = tree(tmp_path / "elsewhere")
    with pytest.raises(Refused, match="symbolic link"):
        await effects_of(case)
    with pytest.raises(Refused, match="symbolic link"):
        await applied(case, effect)

    assert before == tree(tmp_path / "elsewhere")


async def test_a_deleted_object_comes_back_and_goes_again(account: Account, tmp_path: Path) -> None:
    """Over a delete marker the newest version is restored; the undo deletes it again, and no version is lost."""
    case, client = restore_version(account, tmp_path), account.client()
    key = case.params["key"]
    client.delete_object(Bucket=case.bucket, Key=key)
    (effect,) = await effects_of(case)
    result = await applied(case, effect)
    body = client.get_object(Bucket=case.bucket, Key=key)["Body"].read()
    action = case.make()
    await action.undo(effect, result)
    await action.close()
    found = client.list_object_versions(Bucket=case.bucket, Prefix=key)
    latest = [one for one in found["DeleteMarkers"] if one["IsLatest"]]

    assert b"bad" == body
    assert 1 == len(latest)
    assert 4 == len([one for one in found["Versions"] if one["Key"] == key])


async def test_a_named_version_is_restored_and_no_other(account: Account, tmp_path: Path) -> None:
    """The version that is asked for, not the newest; one that is not there is nothing selected."""
    case, client = restore_version(account, tmp_path), account.client()
    found = client.list_object_versions(Bucket=case.bucket, Prefix=case.params["key"])["Versions"]
    oldest = [one["VersionId"] for one in found if one["Key"] == case.params["key"]][-1]
    (effect,) = await effects_of(case, version_id=oldest)
    await applied(case, effect)
    with pytest.raises(NothingSelected, match=r"is the version .* already"):
        await effects_of(case, version_id=oldest)
    with pytest.raises(NothingSelected, match="there is no version"):
        await effects_of(case, version_id="0" * 8)

    assert b"older" == case.look()["now"][0]


async def test_an_undo_does_not_overwrite_what_came_later(account: Account, tmp_path: Path) -> None:
    """When somebody wrote a third version since, the undo leaves it."""
    case = restore_version(account, tmp_path)
    (effect,) = await effects_of(case)
    result = await applied(case, effect)
    case.spoil()
    action = case.make()
    with pytest.raises(Drifted):
        await action.undo(effect, result)
    await action.close()

    assert b"third" == case.look()["now"][0]


async def test_a_bucket_without_versions_is_refused(account: Account, tmp_path: Path) -> None:
    """Where nothing would keep the present object, it is not written over."""
    case = upload(account, tmp_path)
    account.client().put_object(Bucket=case.bucket, Key="data/x", Body=b"x")
    other = restore_version(account, tmp_path)
    other.bucket = case.bucket
    with pytest.raises(Refused, match="keeps no versions"):
        await effects_of(other, key="data/x")


async def test_an_upload_never_overwrites(account: Account, tmp_path: Path) -> None:
    """A key that was taken after the plan, with another content, is left."""
    case = upload(account, tmp_path)
    (effect,) = await effects_of(case)
    key = effect.before["key"]
    account.client().put_object(Bucket=case.bucket, Key=key, Body=b"theirs", ChecksumAlgorithm="SHA256")
    with pytest.raises(PermanentFailure, match="holds something else"):
        await applied(case, effect)

    assert {key: b"theirs"} == case.look()


async def test_an_empty_dump_is_not_uploaded(account: Account, tmp_path: Path) -> None:
    """What a failed dump leaves is no backup; a link to another file is none either."""
    case = upload(account, tmp_path)
    (tmp_path / "dumps" / "db.dump").write_bytes(b"")
    with pytest.raises(Refused, match="is empty"):
        await effects_of(case)
    (tmp_path / "dumps" / "db.dump").unlink()
    (tmp_path / "dumps" / "db.dump").symlink_to("/etc/passwd")
    with pytest.raises(Refused, match="no regular file"):
        await effects_of(case)

    assert {} == case.look()


async def test_the_first_rule_of_a_bucket_is_removed_again(account: Account, tmp_path: Path) -> None:
    """Where there was no lifecycle, the undo leaves none; expiry below the connection's floor is refused."""
    case, client = put_lifecycle(account, tmp_path), account.client()
    client.delete_bucket_lifecycle(Bucket=case.bucket)
    (effect,) = await effects_of(case)
    result = await applied(case, effect)
    one = list(case.look())
    action = case.make()
    await action.undo(effect, result)
    await action.close()
    with pytest.raises(client.exceptions.ClientError, match="NoSuchLifecycleConfiguration"):
        case.look()
    with pytest.raises(Refused, match="nothing expires before 30 days"):
        await effects_of(case, expire_days=29)

    assert ["expire-events"] == one


async def test_a_rule_that_is_there_is_nothing_selected(account: Account, tmp_path: Path) -> None:
    """The same rule a second time is no change; other days replace it, and the undo brings the old days back."""
    case = put_lifecycle(account, tmp_path)
    await applied(case, (await effects_of(case))[0])
    with pytest.raises(NothingSelected, match="already"):
        await effects_of(case)
    (effect,) = await effects_of(case, expire_days=400)
    result = await applied(case, effect)
    replaced = case.look()["expire-events"]
    action = case.make()
    await action.undo(effect, result)
    await action.close()

    assert ("data/events/", 400) == replaced
    assert ("data/events/", 365) == case.look()["expire-events"]


async def test_wrong_credentials_and_a_server_that_is_away(account: Account, tmp_path: Path) -> None:
    """A refused login is permanent, a missing file of it too, a server that is not there is temporary; no secret is told."""
    case = upload(account, tmp_path)
    wrong = case.make(secrets=account.secrets(secret_key="not-the-secret"))
    with pytest.raises(PermanentFailure, match="answered 403") as refused:
        await wrong.observe(case.parameters())
    missing = case.make(secrets={**account.secrets(), "secret_key_file": tmp_path / "missing"})
    with pytest.raises(PermanentFailure, match="cannot read"):
        await missing.observe(case.parameters())
    away = case.make(url=f"http://127.0.0.1:{free_port()}")
    with pytest.raises(TemporaryFailure):
        await away.observe(case.parameters())
    for action in (wrong, missing, away):
        await action.close()

    assert "not-the-secret" not in str(refused.value)


async def test_a_server_that_hangs_is_given_up(
    account: Account, tmp_path: Path, minio_server: MinioServer
) -> None:
    """When it accepts calls and answers none, looking fails for now, after the connection's own time."""
    case = upload(account, tmp_path)
    action = case.make(timeout_seconds=0.5)
    minio_server.freeze()
    try:
        with pytest.raises(TemporaryFailure, match="does not answer"):
            await action.observe(case.parameters())
    finally:
        minio_server.thaw()
        await action.close()


async def test_new_credentials_are_used_without_a_restart(account: Account, tmp_path: Path) -> None:
    """Credentials are read at use: when their file is replaced, the next call goes with the new ones."""
    case = upload(account, tmp_path)
    secrets = account.secrets(secret_key="not-the-secret")
    action = case.make(secrets=secrets)
    with pytest.raises(PermanentFailure):
        await action.observe(case.parameters())
    secrets["secret_key_file"].write_text(account.secret_key + "\n")
    seen = await action.observe(case.parameters())
    await action.close()

    assert hashlib.sha256(b"dump" * 100_000).hexdigest() == seen.sha256


async def test_glacier_asks_for_what_is_archived_and_nothing_else(
    moto_server: MotoServer, tmp_path: Path
) -> None:
    """Of many keys those in Glacier that were not asked for get an effect each; the rest, and too much volume, none."""
    account = Account(moto_server.url, moto_server.access_key, moto_server.secret_key, tmp_path)
    case, client = glacier(account, tmp_path), account.client()
    client.put_object(Bucket=case.bucket, Key="data/deep", Body=b"deep", StorageClass="DEEP_ARCHIVE")
    client.put_object(Bucket=case.bucket, Key="data/plain", Body=b"plain")
    keys = [case.params["keys"][0], "data/deep", "data/plain"]
    effects = await effects_of(case, keys=keys)
    with pytest.raises(Refused, match="Expedited is not for Deep Archive"):
        await effects_of(case, keys=keys, tier="Expedited")
    with pytest.raises(Refused, match="are more than"):
        await effects_of(case, keys=keys, max_bytes=5)
    with pytest.raises(NothingSelected, match="data/plain: STANDARD"):
        await effects_of(case, keys=["data/plain"])
    await applied(case, effects[0])
    left = await effects_of(case, keys=keys)

    assert [f"s3://{case.bucket}/{key}" for key in keys[:2]] == [effect.subject for effect in effects]
    assert [effects[1].subject] == [effect.subject for effect in left]
