"""Which firewall, which of its sets, and what is never blocked; and nft as the way to it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from ipaddress import IPv4Network, IPv6Network
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from remediator.errors import OutcomeUnknown, PermanentFailure, TemporaryFailure
from remediator.programs import Finished, run
from remediator.rooted import AbsolutePath

Name = Annotated[str, StringConstraints(pattern=r"^[A-Za-z][A-Za-z0-9_-]{0,63}$")]
"""Of a table, a set or a network namespace."""


class FirewallConnection(BaseModel):
    """Two sets of one nftables table, to whose elements rules of the table drop what comes from them."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: Literal["firewall"]
    family: Literal["inet", "ip", "ip6", "netdev"] = "inet"
    table: Name
    set_ipv4: Name | None = Field(
        default=None, description="the set of IPv4 sources; without it none is blocked"
    )
    set_ipv6: Name | None = Field(
        default=None, description="the set of IPv6 sources; without it none is blocked"
    )
    protected: tuple[IPv4Network | IPv6Network, ...] = Field(
        min_length=1,
        description="what is never blocked: our own networks, load balancers, monitoring, operators, customers' proxies",
    )
    allow_private: bool = Field(default=False, description="whether private addresses may be blocked")
    widest_ipv4: int = Field(
        default=32, ge=16, le=32, description="shortest prefix of IPv4 that may be blocked"
    )
    widest_ipv6: int = Field(
        default=128, ge=48, le=128, description="shortest prefix of IPv6 that may be blocked"
    )
    longest_seconds: int = Field(default=86_400, ge=60, le=604_800, description="no block lasts longer")
    max_blocked: int = Field(
        default=256, ge=1, le=65_536, description="a set with as many elements takes no more"
    )
    netns: Name | None = Field(default=None, description="the network namespace, where it is not our own")
    nft: AbsolutePath | None = Field(default=None, description="the nft program, where it is not on PATH")
    timeout_seconds: float = Field(default=10, gt=0, le=60, description="of one run of nft")


class Nft:
    """Runs nft: JSON in one argument, JSON out. A change is one transaction of the kernel: all of it or nothing."""

    def __init__(self, connection: FirewallConnection) -> None:
        netns = connection.netns
        self._argv = [*(("ip", "netns", "exec", netns) if netns else ()), str(connection.nft or "nft"), "-j"]
        self._table = {"family": connection.family, "table": connection.table}
        self._seconds = connection.timeout_seconds

    async def listing(self) -> list[Mapping[str, Any]] | None:
        """The whole table, or None where there is none.

        Raises:
            PermanentFailure: when we are not allowed to look.
            TemporaryFailure: when nft does not answer.
        """
        about = {"family": self._table["family"], "name": self._table["table"]}
        done = await self._run({"list": {"table": about}})
        if done.status == 0:
            found: list[Mapping[str, Any]] = json.loads(done.out)["nftables"]
            return found
        if "No such file or directory" in done.told and "network namespace" not in done.told:
            return None
        raise _refused(done) or TemporaryFailure(f"nft does not answer: {done.told or done.status}")

    async def change(self, how: Literal["create", "delete"], name: str, element: Any, what: str) -> bool:
        """Add or remove one element. False where the kernel says that it was there, or gone, already.

        Raises:
            PermanentFailure: when the kernel refused the transaction: nothing was changed.
            TemporaryFailure: when the network namespace is not there.
            OutcomeUnknown: when nft was ended before it told how it went.
        """
        done = await self._run({how: {"element": {**self._table, "name": name, "elem": [element]}}})
        if done.status == 0:
            return True
        if done.status is None or done.status < 0:
            raise OutcomeUnknown(
                f"nft ended before it told about {what}: {done.told or f'signal {done.status}'}"
            )
        if any(told in done.told for told in ("File exists", "overlaps", "element does not exist")):
            return False
        raise _refused(done) or PermanentFailure(f"nftables refused {what}: {done.told}")

    async def _run(self, *commands: Any) -> Finished:
        return await run([*self._argv, json.dumps({"nftables": list(commands)})], self._seconds)


def _refused(done: Finished) -> PermanentFailure | TemporaryFailure | None:
    if "network namespace" in done.told and "Cannot open" in done.told:
        return TemporaryFailure(f"there is no such network namespace now: {done.told}")
    if "Operation not permitted" in done.told:
        return PermanentFailure(f"we are not allowed to: {done.told}")
    return None


def described(parts: Sequence[str]) -> str:
    """Some names in words."""
    return ", ".join(parts) or "none"
