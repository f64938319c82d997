"""The parts that every HTML page is made of: its style, its tables, and numbers as people read them.

Each function returns a piece of HTML, or a text to put into one. `write_page` joins the pieces to one file that loads
nothing from elsewhere. The pages of a run, of a comparison and of a sweep are all made with it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

import yaml

from reports.words import seconds
from simulator.model.verdict import Verdict

CLASSES = {Verdict.PASS: "ok", Verdict.FAIL: "bad", Verdict.NO_OCCASION: "none", Verdict.NOT_JUDGED: "none"}
_STYLE = """
:root{color-scheme:light}
body{font:15px/1.5 system-ui,sans-serif;max-width:64rem;margin:2rem auto;padding:0 1rem;color:#222;background:#fff}
h1{font-size:1.5rem;margin:.2rem 0}h2{font-size:1.1rem;margin:2rem 0 .5rem}
table{border-collapse:collapse;width:100%}caption{text-align:left;color:#555;padding-bottom:.3rem}
table+table{margin-top:1.2rem}
td,th{padding:.25rem .6rem;border-bottom:1px solid #ddd;text-align:left;vertical-align:top;overflow-wrap:anywhere}
th{color:#555;font-weight:600}td.n,th.n{text-align:right;font-variant-numeric:tabular-nums}td.n{white-space:nowrap}th{overflow-wrap:normal}
td.mark{text-align:center;font-weight:700}.marked{table-layout:fixed}
.marked th:nth-child(1){width:1.2rem}.checks th:nth-child(2){width:10.5rem}
.words td:not(.long){overflow-wrap:normal}.words td.long{min-width:6.5rem}.even{table-layout:fixed}
.setting td:first-child{white-space:nowrap}
svg{width:100%;height:auto;margin-top:.6rem}
header{border-left:.5rem solid;padding:.4rem 1rem;margin-bottom:1rem;background:#f7f7f7}
header p{margin:.2rem 0;color:#222}header ul{margin:.2rem 0;padding-left:1.2rem;color:#222}
.PASS,.ok{color:#00694c}.FAIL,.bad{color:#a83b00}.UNKNOWN,.INVALID,.doubt{color:#7a5900}.none{color:#666}
.facts{display:flex;flex-wrap:wrap;gap:.8rem 2.5rem;margin:1rem 0}.facts div{min-width:6rem}
.facts b{display:block;font-size:1.3rem;font-variant-numeric:tabular-nums}.facts span{color:#555;font-size:.85rem}
pre,code{background:#f4f4f4;padding:.1rem .3rem;font-size:.8rem;overflow-wrap:anywhere}
pre{white-space:pre;overflow-x:auto;padding:.5rem;margin:.3rem 0;max-width:100%;box-sizing:border-box}summary{cursor:pointer}
@media print{body{margin:0;max-width:none;font-size:11px;print-color-adjust:exact}td,th{padding:.15rem .4rem}pre{white-space:pre-wrap}h2,h2+p{break-after:avoid}.facts{gap:.4rem 1.2rem}.facts div{min-width:0}.facts b{font-size:1rem}tr,pre,svg{break-inside:avoid}}
"""


class Raw(str):
    """Text that is HTML already."""

    __slots__ = ()


def write_page(path: Path, title: str, parts: Iterable[str]) -> None:
    """Write one self-contained page of these parts, which are HTML."""
    head = f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>'
    page = f"{head}<style>{_STYLE}</style></head><body>{''.join(parts)}</body></html>\n"
    path.write_text(page, encoding="utf-8", errors="replace")


def table(heads: Sequence[str], rows: Iterable[Sequence[str]], kind: str = "") -> str:
    """A table as HTML, of the CSS class `kind`. The text of a cell is escaped unless it is `Raw`. A column other than the
    first is aligned to the right if one of its cells is a number or says that there is none (`-`, `not reached`)."""
    cells = [[(value if isinstance(value, Raw) else escape(value), _numeric(value)) for value in row] for row in rows]
    right = [any(row[i][1] for row in cells) and i > 0 for i in range(len(heads))]
    head = "".join(f"<th{' class=n' if r else ''}>{escape(h)}</th>" for h, r in zip(heads, right, strict=True))
    body = "".join(
        "<tr>" + "".join(_cell(value, r) for (value, _), r in zip(row, right, strict=True)) + "</tr>" for row in cells
    )
    return (
        f"<table class='{kind}'>{f'<thead><tr>{head}</tr></thead>' if any(heads) else ''}<tbody>{body}</tbody></table>"
    )


def facts(rows: Iterable[tuple[str, str]]) -> str:
    """The few numbers that most readers want, as HTML. Each row is (value, what it is), both HTML already."""
    return '<div class="facts">' + "".join(f"<div><b>{v}</b><span>{what}</span></div>" for v, what in rows) + "</div>"


def setting(rows: Iterable[tuple[str, str]], scenario: Mapping[str, Any]) -> str:
    """How it was run, as HTML: a table of (what, value), and below it the whole scenario, folded."""
    text = yaml.safe_dump(dict(scenario), sort_keys=False, allow_unicode=True)
    shown = table(("", ""), [(name, Raw(escape(value))) for name, value in rows], "setting")
    return f"{shown}<details><summary>The scenario, with every default</summary><pre>{escape(text)}</pre></details>"


def _cell(value: str, right: bool) -> str:
    return value if value.startswith("<td") else f"<td{' class=n' if right else ''}>{value}</td>"


def _numeric(value: str) -> bool:
    return not isinstance(value, Raw) and (value.lstrip("+−")[:1].isdigit() or value in ("-", seconds(None)))


def mark(mark: str, kind: str) -> Raw:
    """A table cell with the mark of a verdict; `kind` is its CSS class: ok, bad, doubt or none."""
    return Raw(f'<td class="mark {kind}">{mark}</td>')


def count(value: float) -> str:
    """A count, or a rate, as text: two decimals if it is below 100 and not whole, else none."""
    return f"{value:,.0f}" if value >= 100 or value == int(value) else f"{value:,.2f}"


def share(part: Mapping[str, Any], state: str) -> str:
    """How many targets of this part of a summary are in a state, and their share, as text: `12 (3.0%)`."""
    count = part["outcomes"].get(state, 0)
    return f"{count:,} ({count / part['targets']:.1%})" if count else "0"


def amount(size_bytes: float) -> str:
    """A number of bytes as text, in the largest of TB, GB, MB, kB and B of which there is at least one."""
    size, unit = next(
        ((s, u) for s, u in ((1e12, "TB"), (1e9, "GB"), (1e6, "MB"), (1e3, "kB")) if size_bytes >= s), (1, "B")
    )
    return f"{size_bytes / size:,.1f} {unit}" if size > 1 else f"{size_bytes:,.0f} B"
