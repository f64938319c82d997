"""One TLS context for all clients of a process: a context of its own each would cost 800 KB and 24 ms."""

from __future__ import annotations

import ssl

from simulator.model.errors import ScenarioError


def context(
    *, cafile: str | None = None, cert: str | None = None, key: str | None = None, insecure: bool = False
) -> ssl.SSLContext:
    """A client's context; `insecure` checks neither name nor chain. Raises ScenarioError for unreadable files."""
    try:
        made = ssl.create_default_context(cafile=cafile)
        if cert is not None:
            made.load_cert_chain(cert, key)
    except (OSError, ssl.SSLError) as error:
        names = ", ".join(name for name in (cafile, cert, key) if name)
        raise ScenarioError(f"TLS: {names}: {error.strerror or error}") from None
    if insecure:
        made.check_hostname = False
        made.verify_mode = ssl.CERT_NONE
    return made
