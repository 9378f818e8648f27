"""`remediator coverage`: threshold -> alert -> rule -> playbook, and procedure -> playbook, for everything documented."""

from __future__ import annotations

from pathlib import Path

from remediator.adapters.rulebook import RuleBook
from remediator.commands.check import RULES, rules_of
from remediator.coverage.documented import read_documented
from remediator.coverage.render import FORMATS, WHAT, render
from remediator.coverage.table import Coverage, cover
from remediator.errors import ConfigError, Finding


def read_coverage(
    book: RuleBook,
    prometheus_rules: Path | None = None,
    thresholds: Path | None = None,
    procedures: Path | None = None,
) -> Coverage:
    """The coverage of these files. Without them: prometheus/rules, and beside it thresholds.yml and procedures/.

    Raises:
        ConfigError: when a file cannot be read.
    """
    folder = prometheus_rules or RULES
    documented = read_documented(
        thresholds or folder.parent / "thresholds.yml", procedures or folder.parent / "procedures"
    )
    return cover(documented, rules_of(folder), book)


def coverage(
    book: RuleBook,
    format_: str = "table",
    what: str = "all",
    prometheus_rules: Path | None = None,
    thresholds: Path | None = None,
    procedures: Path | None = None,
) -> tuple[str, int]:
    """The text, and 1 where something that must be carried is not.

    Raises:
        ConfigError: when a file cannot be read, or there is no such format or part.
    """
    for found, known in ((format_, FORMATS), (what, WHAT)):
        if found not in known:
            told = f"there is no {found!r}; expected {', '.join(known)}"
            raise ConfigError((Finding("remediator coverage", 1, 1, told),))
    whole = read_coverage(book, prometheus_rules, thresholds, procedures)
    shown = whole.only(what)
    return render(shown, format_), int(bool(shown.missing()))
