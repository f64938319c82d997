"""Text without the passwords of the URLs in it: what a run or a sweep writes down may be read by anybody."""

from __future__ import annotations

import re


def masked(text: str) -> str:
    """The text with the password of each URL in it replaced by ***."""
    return re.sub(r"(\w+://[^\s:@/]*):[^\s@/]*@", r"\1:***@", text)
