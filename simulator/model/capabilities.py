"""What the service of a dialect can do, as far as somebody decides by it."""

from __future__ import annotations

from msgspec import Struct


class Capabilities(Struct, frozen=True, kw_only=True):
    """The defaults are those of `atlas`, which can do all of it.

    A dialect gives its capabilities in `simulator.dialects.registry`; they stand here, because the judge decides by them
    which checks have something to look at, and knows no dialects. Each field says who else reads it.
    """

    versions: bool = True
    """The replica numbers the versions of a document, and honours a condition on them. Without: no S1, S2, S12."""
    deltas: bool = True
    """The replica says what differs without being asked. Without: no S3."""
    replica: bool = True
    """The backend keeps a document of each thing, and says what it commits and refuses. Without: no S5, S22."""
    sessions: bool = True
    """A device is connected, and what is meant for it waits while it is not. Without, as over HTTP: no L3, L8, S19, S20."""
    credentials: bool = True
    """A device can ask for a temporary credential: `target.access: credential`, see `worlds.setup.dialect_of`."""
    addresses: bool = True
    """A device tells its address: `target.bind_address`, see `worlds.setup.dialect_of`."""


ALL = Capabilities()
