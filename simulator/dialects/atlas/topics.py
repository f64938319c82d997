"""The topics of the atlas dialect."""

from __future__ import annotations

from dataclasses import dataclass

from simulator.dialects.topics import Topics


@dataclass(frozen=True, slots=True)
class AtlasTopics(Topics):
    """As the IoT Atlas has them, and those of temporary credentials, of which it has none."""

    update: str = "state/{thing}/update"
    accepted: str = "state/{thing}/update/accepted"
    rejected: str = "state/{thing}/update/rejected"
    delta: str = "state/{thing}/update/delta"
    get: str = "state/{thing}/get"
    get_accepted: str = "state/{thing}/get/accepted"
    get_rejected: str = "state/{thing}/get/rejected"
    credentials: str = "state/{thing}/credentials/get"
    credentials_accepted: str = "state/{thing}/credentials/get/accepted"
    credentials_rejected: str = "state/{thing}/credentials/get/rejected"


TOPICS = AtlasTopics()
