"""What people read in a terminal: tables where there is room, else one entry under the other; and no orders to it."""

import getpass
from collections.abc import Iterable
from typing import Any

from rich.console import Console, ConsoleOptions, Group, RenderableType
from rich.measure import Measurement
from rich.padding import Padding
from rich.segment import Segment
from rich.table import Table
from rich.text import Text

WIDE = 80
"""Columns of a terminal in which every table is shown as one, folded where it must be."""

_ORDERS = {**dict.fromkeys([*range(0x20), *range(0x7F, 0xA0)], "\N{REPLACEMENT CHARACTER}"), 9: "\t", 10: "\n", 13: ""}


def user() -> str:
    """Who types here, as the machine knows."""
    try:
        return getpass.getuser()
    except (OSError, KeyError):
        return "unknown"


class Screen(Console):
    """A terminal that names and reasons of other people give no orders: a colour, another title, what to type next."""

    def render_str(self, text: str, **more: Any) -> Text:
        """A text, before anybody counts how wide it is."""
        return super().render_str(text.translate(_ORDERS), **more)

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """Its pieces, before colours are written between them."""
        for piece in super().render(renderable, options):
            yield piece if piece.control else piece._replace(text=piece.text.translate(_ORDERS))


def screen(*, stderr: bool = False, **more: Any) -> Console:
    """Where commands print; brackets are no markup."""
    return Screen(stderr=stderr, markup=False, **more)


def fitted(table: Table, console: Console) -> RenderableType:
    """The table itself, or in a narrow terminal in which it would be cut, its rows as text that wraps between words:
    the first cell, and below it each other one behind its heading.
    """
    for column in table.columns:  # of a long cell, such as a component of a fleet, often the end alone tells
        column.overflow = "fold"
    if console.width >= WIDE or _width(table, console) <= console.width:
        return table
    headings = [str(column.header) for column in table.columns]
    parts: list[RenderableType] = [] if table.title is None else [_text(table.title, "bold")]
    for first, *others in zip(*(list(column.cells) for column in table.columns), strict=True):
        parts.append(_text(first, "bold"))
        said = [
            Text.assemble((f"{heading} " if heading else "", "dim"), _text(cell))
            for heading, cell in zip(headings[1:], others, strict=True)
            if str(cell).strip() not in ("", "-")
        ]
        parts.append(Padding(Text(" · ").join(said), (0, 0, 0, 2)))
    if table.caption is not None:
        parts.append(_text(table.caption))
    return Group(*parts)


def _width(table: Table, console: Console) -> int:
    """Columns that it takes where nothing is folded."""
    return Measurement.get(console, console.options.update(max_width=10_000), table).maximum


def _text(cell: RenderableType, style: str = "") -> Text:
    """A cell as text; brackets in it are no markup, since names are other people's."""
    found = cell.copy() if isinstance(cell, Text) else Text(str(cell))
    if style:
        found.stylize(style)
    return found
