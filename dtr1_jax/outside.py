"""Addresses and names in the settings that reach outside this machine: which are allowed, and how a message shows them.

Settings are saved in config.json, printed in errors and shown in the report. So no setting may hold a password or key:
an address has none in it, and a key is in an environment variable whose name is the setting.
"""

from __future__ import annotations

import ipaddress
import re
import urllib.parse

SAFE_URL = "https://... of a server or http://... of this machine (localhost), without user, password, ? and #"
SAFE_VARIABLE = "the name of an environment variable in capital letters, such as JUDGE_KEY, not the key itself"

_CHARACTERS = re.compile(r"[A-Za-z0-9.:/\[\]_~%+-]*")  # none at which two readers could cut a URL differently
_VARIABLE = re.compile(r"[A-Z_][A-Z0-9_]{0,63}")


def is_safe_url(url: str) -> bool:
    """Whether a request to `url` is encrypted or stays on this machine, and the address holds no credentials."""
    try:
        parts = urllib.parse.urlsplit(url)
        _ = parts.port  # raises ValueError for a port that is no number
        host = parts.hostname or ""
    except ValueError:
        return False
    if not host or not _CHARACTERS.fullmatch(url):
        return False
    return parts.scheme == "https" or (parts.scheme == "http" and is_loopback(host))


def is_loopback(host: str) -> bool:
    """Whether a host name or IP address means this machine."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def is_safe_variable(name: str) -> bool:
    """Whether `name` is the name of an environment variable and does not look like a key."""
    return bool(_VARIABLE.fullmatch(name))


def shown_url(url: str) -> str:
    """The URL for a message: scheme and host alone, without what may be a password or key."""
    try:
        parts = urllib.parse.urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        return "an address that cannot be read"
    where = f"{host or ''}{'' if port is None else f':{port}'}"
    hidden = any((parts.username, parts.password, parts.query, parts.fragment))
    return f"{parts.scheme}://{where}"[:80] + (" with what may be a password or key" if hidden else "")
