"""Figures as a person reads them: `1.2 GB`, `12,340`, `35.0 s`; never the raw float."""

from __future__ import annotations

from collections.abc import Mapping

_SIZES = ("B", "kB", "MB", "GB", "TB", "PB")


def figure(name: str, value: float) -> str:
    """One figure, by the base unit that its name ends in: bytes, seconds or ratio; else a count."""
    if name.endswith("bytes"):
        return _bytes(value)
    if name.endswith("seconds"):
        return f"{value:,.0f} s" if value >= 100 or value == int(value) else f"{value:,.1f} s"
    if name.endswith("ratio"):
        return f"{value:.1%}"
    return f"{value:,.0f}" if value == int(value) else f"{value:,.2f}"


def figures(values: Mapping[str, float], at_most: Mapping[str, float] | None = None) -> str:
    """All figures of an effect in one line, each with the bound that the plan asks permission for."""
    bounds = at_most or {}
    told = []
    for name, value in values.items():
        bound = f" (at most {figure(name, bounds[name])})" if name in bounds else ""
        told.append(f"{name.replace('_', ' ')} {figure(name, value)}{bound}")
    told += [
        f"{name.replace('_', ' ')} at most {figure(name, bounds[name])}"
        for name in bounds
        if name not in values
    ]
    return " · ".join(told)


def _bytes(value: float) -> str:
    size, unit = float(value), 0
    while abs(size) >= 1000 and unit < len(_SIZES) - 1:
        size, unit = size / 1000, unit + 1
    return f"{size:,.0f} {_SIZES[unit]}" if unit == 0 else f"{size:,.1f} {_SIZES[unit]}"
