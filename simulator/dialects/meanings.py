"""What a message of a dialect means, in words that all dialects share.

Faults are asked for by meaning ("the report of an end is lost"), and each dialect says it with topics and payloads of its
own. So the dialect classifies: `DeviceDialect.meaning(topic, payload)` says what a message on the device's road is for.
Faults go by that alone, and a new dialect is harmed as every other is, without a line in `faults/`.
"""

from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple


class Means(StrEnum):
    """What a message is for. To the device: DESIRED to REFUSED; from the device: REPORT to WANTED."""

    DESIRED = "desired"  # what the device shall run, unasked: the command
    CURRENT = "current"  # the same, as the answer to ASKED
    NOT_CURRENT = "not-current"  # ASKED is refused
    ACCEPTED = "accepted"  # a report is accepted
    REJECTED = "rejected"  # a report is refused
    CREDENTIAL = "credential"  # what the device may download with
    REFUSED = "refused"  # it gets no credential
    REPORT = "report"  # what the device runs, and how an update goes
    ASKED = "asked"  # the device asks what it shall run
    WANTED = "wanted"  # the device asks for a credential
    OTHER = "other"  # nothing of the dialect


class Meaning(NamedTuple):
    """A message's meaning. `name` is what the dialect calls such a message, for the trace. `of_end`: it tells of an update's
    end, as a report does or the answer that repeats it. `answered`: the service answers it, if it is a report."""

    what: Means
    name: str
    of_end: bool = False
    answered: bool = True
