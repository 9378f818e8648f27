"""firewall.block_address: drop what one source sends, for a limited time."""

from __future__ import annotations

import secrets
from ipaddress import ip_network
from typing import ClassVar

from pydantic import BaseModel, ConfigDict, Field

from remediator.actions.firewall.connection import FirewallConnection, Nft, described
from remediator.actions.firewall.ranges import Address, Network, must_be_blockable
from remediator.actions.firewall.table import Seen, seen_of, type_of, value_of
from remediator.domain.plans import Effect, Progress, Result
from remediator.errors import Drifted, NothingSelected, OutcomeUnknown, PermanentFailure, Refused
from remediator.figures import figure
from remediator.pipeline.ports import Permissions


class BlockAddressParams(BaseModel):
    """Parameters of `firewall.block_address`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    connection: str
    address: Address = Field(
        description="the source, such as 203.0.113.7; a network only where the connection allows one"
    )
    timeout_seconds: int = Field(
        default=3600, ge=60, le=604_800, description="after which the kernel lifts the block by itself"
    )

    @property
    def network(self) -> Network:
        """The address as a network."""
        return ip_network(self.address)


class BlockAddress:
    """Put one source address into an nftables set that the firewall drops, until a timeout."""

    kind: ClassVar[str] = "firewall.block_address"
    idempotent: ClassVar[bool] = True
    Params: ClassVar[type[BaseModel]] = BlockAddressParams
    Connection: ClassVar[type[BaseModel]] = FirewallConnection

    def __init__(self, connection: FirewallConnection) -> None:
        self._connection = connection
        self._nft = Nft(connection)

    async def close(self) -> None:
        """Nothing is held between uses."""

    async def observe(self, params: BlockAddressParams) -> Seen:
        """Read the table."""
        name = self._allowed(params)
        listing = await self._nft.listing()
        if listing is None:
            raise PermanentFailure(f"there is no {self._where}")
        seen = seen_of(listing, name, params.network.version)
        if seen is None:
            raise PermanentFailure(f"there is no set {name} in {self._where}")
        return seen

    def plan(self, params: BlockAddressParams, seen: Seen) -> tuple[Effect, ...]:
        """One element more, where rules drop what is in the set."""
        self._allowed(params)
        self._must_fit(params, seen)
        held = seen.holding(params.network)
        if held:
            left = f"for {figure('seconds', held.seconds)} more" if held.seconds else "without end"
            raise NothingSelected(f"{params.address} is blocked already, {left}")
        if seen.meeting(params.network):
            raise Refused(f"a part of {params.address} is blocked already: lift that first")
        if len(seen.elements) >= self._connection.max_blocked:
            raise Refused(
                f"{len(seen.elements)} sources are blocked already: this is more than one address's doing"
            )
        network = params.network
        return (
            Effect(
                action=self.kind,
                subject=f"source {params.address}",
                params=params.model_dump(mode="json"),
                summary=f"drop everything from {params.address} for {figure('seconds', params.timeout_seconds)} "
                f"({seen.name} of {self._where}, at {described(seen.hooks)})",
                before={
                    "set": seen.handle,
                    "type": seen.type,
                    "flags": list(seen.flags),
                    "hooks": list(seen.hooks),
                },
                figures={"addresses": network.num_addresses, "blocked_sources": len(seen.elements)},
                at_most={"blocked_sources": self._connection.max_blocked - 1},
                undo="take it out of the set again; the kernel does so by itself after the timeout",
            ),
        )

    async def apply(self, effect: Effect) -> Result:
        """Add the element, unless the source is blocked; looks again whether it is there then."""
        params = BlockAddressParams.model_validate(effect.params)
        seen = await self.observe(params)
        self._must_fit(params, seen)
        now = {"set": seen.handle, "type": seen.type, "flags": list(seen.flags), "hooks": list(seen.hooks)}
        if told := [f"{name} is {now[name]}" for name in now if now[name] != effect.before[name]]:
            raise Drifted(f"{self._where} was changed since it was planned: {', '.join(told)}")
        if seen.holding(params.network):
            return Result(f"{params.address} is blocked already", changed=False)
        if len(seen.elements) >= self._connection.max_blocked:
            raise Drifted(f"{len(seen.elements)} sources are blocked by now")
        mark = f"remediator {secrets.token_hex(8)}"
        element = {"val": value_of(params.network), "timeout": params.timeout_seconds, "comment": mark}
        added = await self._nft.change(
            "create", seen.name, {"elem": element}, f"the block of {params.address}"
        )
        if not added:
            raise Drifted(f"{params.address}, or a part of it, was blocked by somebody else just now")
        return Result(
            f"blocked {params.address} for {figure('seconds', params.timeout_seconds)}",
            evidence={"set": seen.name, "hooks": list(seen.hooks)},
            captured={"mark": mark},
        )

    async def undo(self, effect: Effect, result: Result) -> Result:
        """Take it out again, if it is there and it is ours."""
        params = BlockAddressParams.model_validate(effect.params)
        seen = await self.observe(params)
        held = seen.holding(params.network)
        if held is None:
            return Result(f"{params.address} is not blocked any more", changed=False)
        if held.comment != result.captured["mark"]:
            raise Refused(f"{params.address} is blocked by somebody else by now")
        gone = await self._nft.change(
            "delete", seen.name, value_of(params.network), f"the end of the block of {params.address}"
        )
        if (await self.observe(params)).holding(params.network):
            raise OutcomeUnknown(f"{params.address} was taken out of {seen.name} and is in it")
        return Result(f"{params.address} is no longer blocked", changed=gone)

    def progress(self, effect: Effect, seen: Seen) -> Progress:
        """Done where the source is in the set; until then it is as it was, if it is the same set."""
        if seen.handle != effect.before["set"] or list(seen.hooks) != effect.before["hooks"]:
            return Progress.UNCLEAR
        network = BlockAddressParams.model_validate(effect.params).network
        if seen.holding(network):
            return Progress.DONE
        return Progress.UNCLEAR if seen.meeting(network) else Progress.UNTOUCHED

    def permissions(self, params: BlockAddressParams) -> Permissions:
        """The kernel knows no smaller privilege than the whole of a network namespace."""
        entering = f", and CAP_SYS_ADMIN to enter {self._connection.netns}" if self._connection.netns else ""
        return Permissions(
            other=(f"CAP_NET_ADMIN over the network namespace of {self._where}{entering}; nft(8) on PATH",)
        )

    @property
    def _where(self) -> str:
        netns = f" in namespace {self._connection.netns}" if self._connection.netns else ""
        return f"table {self._connection.family} {self._connection.table}{netns}"

    def _allowed(self, params: BlockAddressParams) -> str:
        """The set for this address. Raises Refused where it, or the time, is outside what the connection allows."""
        own = self._connection
        must_be_blockable(
            params.network,
            protected=own.protected,
            allow_private=own.allow_private,
            widest=(own.widest_ipv4, own.widest_ipv6),
        )
        if params.timeout_seconds > own.longest_seconds:
            raise Refused(f"the connection allows no block of more than {own.longest_seconds:,} s")
        name = own.set_ipv4 if params.network.version == 4 else own.set_ipv6
        if name is None:
            raise Refused(f"the connection names no set for IPv{params.network.version}")
        return name

    def _must_fit(self, params: BlockAddressParams, seen: Seen) -> None:
        """Raise Refused where the set cannot hold it, would not let go of it, or blocks nothing."""
        if seen.type != type_of(params.network.version):
            raise Refused(f"set {seen.name} holds {seen.type}, not {type_of(params.network.version)}")
        if "timeout" not in seen.flags or "constant" in seen.flags:
            raise Refused(f"set {seen.name} takes no timeouts: a block would stay for ever")
        if seen.merges:
            raise Refused(f"set {seen.name} merges neighbours, so that one block could not be lifted alone")
        if params.network.num_addresses > 1 and "interval" not in seen.flags:
            raise Refused(f"set {seen.name} holds single addresses only")
        if not seen.hooks:
            raise Refused(f"no rule of {self._where} drops what is in {seen.name}: it would block nothing")
