"""files.set_env_key: one key of an env file, one line of it, in one step."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from typing import ClassVar

from pydantic import BaseModel, ConfigDict, Field, field_validator

from remediator.actions.files.connection import SECRET, EnvFile, EnvValue, FilesAction, Key, Name, allowed
from remediator.actions.files.replacing import put
from remediator.domain.plans import Effect, Progress, Result
from remediator.errors import Drifted, Refused, TemporaryFailure
from remediator.pipeline.ports import Permissions
from remediator.rooted import Identity, folder, looking, regular, write_all
from remediator.stoppable import Stop, stoppable

_LARGEST_BYTES = 1024 * 1024


class SetEnvKeyParams(BaseModel):
    """Parameters of `files.set_env_key`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    connection: str
    env_file: Name = Field(description="what the connection calls the file")
    key: Key = Field(description="the connection must allow it")
    value: EnvValue = Field(description="no secret; the connection may say which values there are")

    @field_validator("key")
    @classmethod
    def _no_secret(cls, key: str) -> str:
        if SECRET.search(key):
            raise ValueError("a key of that name is a secret, and plans and journals show this value")
        return key


@dataclass(frozen=True, slots=True)
class SeenEnv:
    """The file, and the values that its lines give the key, in their order; the last one is in force."""

    file: str
    values: tuple[str, ...]


class SetEnvKey(FilesAction):
    """Set one key of an env file in exactly one line, all others left as they are; what reads it needs a restart."""

    kind: ClassVar[str] = "files.set_env_key"
    idempotent: ClassVar[bool] = True
    Params: ClassVar[type[BaseModel]] = SetEnvKeyParams

    async def observe(self, params: SetEnvKeyParams) -> SeenEnv:
        """Read the key's lines."""
        return await stoppable(self._observe, params)

    def plan(self, params: SetEnvKeyParams, seen: SeenEnv) -> tuple[Effect, ...]:
        """One effect: from the value in force to the wanted one; it may be there already."""
        was = seen.values[-1] if seen.values else None
        undo = f"remove the line of {params.key}" if was is None else f"set {params.key} to {was!r} again"
        twice = f" (in {len(seen.values)} lines, one is left)" if len(seen.values) > 1 else ""
        done = seen.values == (params.value,)
        return (
            Effect(
                action=self.kind,
                subject=f"{seen.file} {params.key}",
                params=params.model_dump(mode="json"),
                summary=f"{params.key} in {seen.file} is {params.value!r} already"
                if done
                else f"set {params.key} in {seen.file}: {_shown(was)}{twice} -> {params.value!r}",
                before={"values": list(seen.values)},
                after={"values": [params.value]},
                figures={"lines": 0 if done else max(1, len(seen.values))},
                undo="" if done else undo,
            ),
        )

    async def apply(self, effect: Effect) -> Result:
        """Write the file beside itself with that one line changed, and swap the two."""
        params = SetEnvKeyParams.model_validate(effect.params)
        changed = await stoppable(self._set, params, effect.before["values"], [params.value])
        told = f"{params.key} is {params.value!r}"
        return Result(told if changed else f"{told} already", changed=changed)

    async def undo(self, effect: Effect, result: Result) -> Result:
        """Set the value that was in force, or remove the line, if nobody has set another value since."""
        params = SetEnvKeyParams.model_validate(effect.params)
        was = list(effect.before["values"])[-1:]
        changed = await stoppable(self._set, params, [params.value], was)
        told = f"{params.key} is {was[0]!r}" if was else f"{params.key} is not set"
        return Result(f"{told} again" if changed else f"{told} already", changed=changed)

    def progress(self, effect: Effect, seen: SeenEnv) -> Progress:
        """Done where the key has the value, in one line."""
        if list(seen.values) == effect.after["values"]:
            return Progress.DONE
        same = list(seen.values) == effect.before["values"]
        return Progress.UNTOUCHED if same else Progress.UNCLEAR

    def permissions(self, params: SetEnvKeyParams) -> Permissions:
        """Writing in its folder, where the new file is made; to be its owner, or root, so that it keeps its own."""
        env = self._env(params)
        return Permissions(files=(f"rw {self._connection.where(env.place)}/", f"owner of {env.place.file}"))

    def _env(self, params: SetEnvKeyParams) -> EnvFile:
        env = allowed("env files", params.env_file, self._connection.env_files)
        values = allowed("keys", params.key, env.keys)
        if values and params.value not in values:
            raise Refused(f"{params.value!r} is none of the values of {params.key} ({', '.join(values)})")
        return env

    def _observe(self, stop: Stop, params: SetEnvKeyParams) -> SeenEnv:
        env = self._env(params)
        where = self._connection.where(env.place)
        with looking(f"env file {params.env_file}"), folder(where) as parent:
            text, _ = _read(parent, env.place.file)
        return SeenEnv(str(where / env.place.file), values_of(text, params.key))

    def _set(self, stop: Stop, params: SetEnvKeyParams, expected: list[str], wanted: list[str]) -> bool:
        env = self._env(params)
        where = self._connection.where(env.place)
        with looking(f"env file {params.env_file}"), folder(where) as parent:
            text, found = _read(parent, env.place.file)
            now = list(values_of(text, params.key))
            if now == wanted:
                return False
            if now != expected:
                raise Drifted(f"{params.key} was {expected} and is {now}")
            new = with_line(text, params.key, wanted[0] if wanted else None)
            put(
                parent,
                env.place.file,
                lambda file: write_all(file, new),
                expected=Identity.of(found),
                like=found,
                stop=stop,
            )
        return True


def values_of(text: bytes, key: str) -> tuple[str, ...]:
    """What the lines of a key give it."""
    return tuple(found["value"].decode(errors="replace").strip() for found in _lines(key).finditer(text))


def with_line(text: bytes, key: str, value: str | None) -> bytes:
    """The text with exactly one line for the key, in the place of its first; with none where the value is None."""
    end = b"\r\n" if b"\r\n" in text else b"\n"
    lines = _lines(key)
    first = lines.search(text)
    if first is None:
        if value is None:
            return text
        joint = end if text and not text.endswith(b"\n") else b""
        return text + joint + f"{key}={value}".encode() + end
    line = b"" if value is None else first["head"] + value.encode() + (first["end"] or end)
    return text[: first.start()] + line + lines.sub(b"", text[first.end() :])


def _lines(key: str) -> re.Pattern[bytes]:
    name = re.escape(key.encode())
    return re.compile(
        rb"^(?P<head>[ \t]*(?:export[ \t]+)?" + name + rb"[ \t]*=)(?P<value>[^\r\n]*)(?P<end>\r?\n|\r?\Z)",
        re.MULTILINE,
    )


def _read(parent: int, name: str) -> tuple[bytes, os.stat_result]:
    with regular(parent, name) as file:
        found = os.fstat(file)
        if found.st_size > _LARGEST_BYTES:
            raise Refused(f"{name} is no env file: it has {found.st_size:,} bytes")
        text = os.pread(file, _LARGEST_BYTES + 1, 0)
    if b"\0" in text:
        raise Refused(f"{name} is no env file: it holds a NUL")
    if len(text) != found.st_size:
        raise TemporaryFailure(f"{name} is being written")
    return text, found


def _shown(value: str | None) -> str:
    return "not set" if value is None else repr(value)
