"""How long work shows its progress on a terminal."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress


def counted(console: "Console") -> "Progress":
    """A bar of how much is done of how much, with a task's field `figures` beside it; it is gone when it ends."""
    from rich import progress

    columns = (
        progress.TextColumn("{task.description}"),
        progress.BarColumn(),
        progress.MofNCompleteColumn(),
        progress.TextColumn("{task.fields[figures]}"),
        progress.TimeElapsedColumn(),
    )
    return progress.Progress(*columns, console=console, transient=True)
