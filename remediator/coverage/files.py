"""YAML of other programs, read as they read it: anchors and merge keys too, and the place of everything in it."""

from __future__ import annotations

from pathlib import Path

import yaml

from remediator.adapters.yamlfiles import Document
from remediator.errors import ConfigError, Finding

try:
    from yaml import CSafeLoader as Loader
except ImportError:  # PyYAML without libyaml: the same answers, slower
    from yaml import SafeLoader as Loader  # type: ignore[assignment]


def read_foreign(path: Path) -> Document:
    """A file of Prometheus or Alertmanager.

    Raises:
        ConfigError: when it cannot be read, or is no YAML.
    """
    try:
        text = path.read_text(encoding="utf-8")
        return Document(str(path), yaml.load(text, Loader), yaml.compose(text, Loader))
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line, column = (mark.line + 1, mark.column + 1) if mark else (1, 1)
        raise ConfigError(
            (Finding(str(path), line, column, f"this is not YAML: {error.problem}"),)
        ) from error
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError((Finding(str(path), 1, 1, f"cannot be read: {error}"),)) from error
