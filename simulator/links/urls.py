"""Where an HTTP exchange may go: which hosts are meant, and what a redirect asks for next. Pure."""

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
    """Whether this host is this machine; a name that only looks like a loopback address is not."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def parts_of(url: str) -> SplitResult:
    """A URL's parts; all of them empty where it is no URL at all."""
    try:
        return urlsplit(url)
    except ValueError:  # of a bracket that is not closed
        return SplitResult("", "", "", "", "")


def refuse_unmeant(host: str, hosts: Collection[str] | None) -> None:
    """Raise LinkError for a host beyond this machine that is none of `hosts`; None means them all."""
    if hosts is not None and host not in hosts and not local(host):
        raise LinkError(f"{host} is not this machine; add --allow-remote {host} if you mean it")


def redirected(request: Request, status: int, location: str | None) -> Request | None:
    """The request that a response asks for; None where it is no redirect. Raises LinkError for one to what is no URL.

    RFC 9110 15.4: 303 asks with GET; an Authorization header stays with its own host.
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
