"""Decides which hosts may be spoken to, and which request follows a redirect. Pure: nothing here opens a connection.

`refuse_unmeant` raises LinkError for a host that is neither this machine nor one of those that are allowed. The HTTP
links that open connections ask it before they do, at each redirect too; `worlds/live/options.py` asks it about the
addresses that the user gives.
"""

from __future__ import annotations

import functools
import ipaddress
from collections.abc import Collection
from urllib.parse import SplitResult, urljoin, urlsplit

from msgspec.structs import replace

from simulator.model.errors import LinkError
from simulator.model.io import Request

REDIRECTS_MAX = 5
_REDIRECTS = frozenset({301, 302, 303, 307, 308})


@functools.cache
def local(host: str) -> bool:
    """Whether this host is this machine: `localhost`, or a loopback address. No name is looked up."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def parts_of(url: str) -> SplitResult:
    """The parts of a URL; all of them are empty if the text is not a URL."""
    try:
        return urlsplit(url)
    except ValueError:  # of a bracket that is not closed
        return SplitResult("", "", "", "", "")


def refuse_unmeant(host: str, hosts: Collection[str] | None) -> None:
    """Raise LinkError if the host is neither this machine nor one of `hosts`; if `hosts` is None, all hosts are allowed."""
    if hosts is not None and host not in hosts and not local(host):
        raise LinkError(f"{host} is not this machine; add --allow-remote {host} if you mean it")


def redirected(request: Request, status: int, location: str | None) -> Request | None:
    """The request to send after a response with this status and Location header; None if it is no redirect. Raises
    LinkError if the location is not a URL.

    As RFC 9110 15.4 has it: after 303 the request is a GET, and an Authorization header is not sent to another host.
    """
    if status not in _REDIRECTS or location is None:
        return None
    try:
        url, headers = urljoin(request.url, location), request.headers
    except ValueError:
        raise LinkError(f"redirected to what is no URL: {location!r}") from None
    if urlsplit(url)[:2] != urlsplit(request.url)[:2]:
        headers = tuple((name, value) for name, value in headers if name != "authorization")
    if status == 303 and request.method != "HEAD":
        return Request("GET", url, headers, purpose=request.purpose)
    return replace(request, url=url, headers=headers)
