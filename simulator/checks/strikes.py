"""What faults did to devices and their roads, as the record tells it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import orjson

from simulator.model.events import Kind
from simulator.trace.reader import Trace, View

Meant = Callable[[dict[str, Any]], bool]


def strikes(trace: Trace, meant: Meant) -> View:
    """The strikes whose detail is meant."""
    return with_detail(trace.kind(Kind.FAULT).where("status", "did"), meant)


def sights(trace: Trace, meant: Meant) -> View:
    """What the connections that faults made themselves saw, where it is meant."""
    return with_detail(trace.kind(Kind.FAULT).where("status", "saw"), meant)


def with_detail(view: View, meant: Meant) -> View:
    """The events whose detail, as JSON, is meant; each distinct one is asked about once."""
    words = view.trace.words("detail")
    codes, which = np.unique(view["detail"], return_inverse=True)
    so = [code >= 0 and meant(orjson.loads(words[code])) for code in codes.tolist()]
    return view.only(np.array(so, bool)[which])
