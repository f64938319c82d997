"""What the service of a dialect can do, as far as somebody decides by it."""

from __future__ import annotations

from msgspec import Struct


class Capabilities(Struct, frozen=True, kw_only=True):
    """The defaults are those of `atlas`, which can do all of it.

    A dialect gives its capabilities in `simulator.dialects.registry`; they stand here, because the judge decides by them
    which checks have something to look at, and knows no dialects. Each field says who else reads it.
    """

    versions: bool = True
    """The replica numbers the versions of a document, and honours a condition on them. Without: no S1, no S2."""
    deltas: bool = True
    """The replica says what differs without being asked. Without: no S3."""
    credentials: bool = True
    """A device can ask for a temporary credential: `target.access: credential`, see `worlds.setup.dialect_of`."""
    addresses: bool = True
    """A device tells its address: `target.bind_address`, see `worlds.setup.dialect_of`."""


ALL = Capabilities()
