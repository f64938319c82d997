"""What faults did to devices and their roads, as the record tells it."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import numpy as np

from simulator.model.events import Kind
from simulator.trace.reader import Trace, View

Meant = Callable[[dict[str, Any]], bool]


def strikes(trace: Trace, meant: Meant) -> View:
    """The strikes whose detail is meant."""
    return told(trace.kind(Kind.FAULT).where("status", "did"), meant)


def sights(trace: Trace, meant: Meant) -> View:
    """What the connections that faults made themselves saw, where it is meant."""
    return told(trace.kind(Kind.FAULT).where("status", "saw"), meant)


def told(view: View, meant: Meant) -> View:
    """The events whose detail, as JSON, is meant; each distinct one is asked about once."""
    words = view.trace.words("detail")
    codes = [code for code in np.unique(view["detail"]).tolist() if code >= 0 and meant(json.loads(words[code]))]
    return view.only(np.isin(view["detail"], codes))
