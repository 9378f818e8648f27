"""The kinds of values that settings are made of. Relative paths start at the folder of `remediator.yml`."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, Field, SecretStr, ValidationInfo

from remediator.adapters.schema import show


def _below_the_folder(path: Path, info: ValidationInfo) -> Path:
    return Path((info.context or {}).get("base", "")) / path.expanduser()


def _filled(secret: SecretStr) -> SecretStr:
    value = secret.get_secret_value()
    if not value or value != value.strip():
        raise ValueError("a secret may neither be empty nor begin or end in white space")
    return secret


def _bcrypt(secret: SecretStr) -> SecretStr:
    if not re.fullmatch(r"\$2[abxy]\$\d\d\$[./A-Za-z0-9]{53}", secret.get_secret_value()):
        raise ValueError("expected a bcrypt hash, as `htpasswd -nBC 10 NAME` prints it")
    return secret


def _http(url: str) -> str:
    if not re.match(r"https?://[^/\s]", url):
        raise ValueError(f"found {show(url)}, expected a URL that begins with http:// or https://")
    return url.rstrip("/")


def _sqlite(url: str, info: ValidationInfo) -> str:
    if not re.match(r"sqlite:///.", url) or "?" in url:
        raise ValueError(f"found {show(url)}, expected sqlite:///PATH")
    return f"sqlite:///{_below_the_folder(Path(url.removeprefix('sqlite:///')), info)}"


FilePath = Annotated[Path, AfterValidator(_below_the_folder)]
Secret = Annotated[SecretStr, AfterValidator(_filled)]
SessionKey = Annotated[SecretStr, Field(min_length=32), AfterValidator(_filled)]
Hash = Annotated[SecretStr, AfterValidator(_bcrypt)]
Url = Annotated[str, AfterValidator(_http)]
SqliteUrl = Annotated[str, AfterValidator(_sqlite)]
Name = Annotated[str, Field(min_length=1, pattern=r"^[A-Za-z0-9][A-Za-z0-9._@-]*$")]
Seconds = Annotated[float, Field(gt=0, allow_inf_nan=False)]
