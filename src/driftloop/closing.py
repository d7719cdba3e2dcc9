"""What is open until a `with` block ends."""

from typing import Self


class Closing:
    """Whatever has a `close`: a `with` block calls it at its end."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Give back what is held."""
        raise NotImplementedError
