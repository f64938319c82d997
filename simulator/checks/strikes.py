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
    """What faults did to devices or to their roads: the events for whose detail `meant` is true."""
    return with_detail(trace.kind(Kind.FAULT).where("status", "did"), meant)


def sights(trace: Trace, meant: Meant) -> View:
    """What the connections that faults made themselves saw: the events for whose detail `meant` is true."""
    return with_detail(trace.kind(Kind.FAULT).where("status", "saw"), meant)


def with_detail(view: View, meant: Meant) -> View:
    """The events of `view` for whose detail, read as JSON, `meant` is true. It is called once for each different detail."""
    words = view.trace.words("detail")
    codes, which = np.unique(view["detail"], return_inverse=True)
    so = [code >= 0 and meant(orjson.loads(words[code])) for code in codes.tolist()]
    return view.only(np.array(so, bool)[which])
