"""Firewall: block one source address for a limited time, in an nftables set that the firewall's own rules drop."""

from remediator.actions.firewall.block import BlockAddress, BlockAddressParams
from remediator.actions.firewall.connection import FirewallConnection
from remediator.actions.firewall.table import Element, Seen

__all__ = ["BlockAddress", "BlockAddressParams", "Element", "FirewallConnection", "Seen"]
