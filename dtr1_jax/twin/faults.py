"""What is wrong with a transcript, as a list that stays short for any text."""

from __future__ import annotations

import dataclasses

MAX_FAULTS = 50  # of one part of a transcript: hostile text can hold tens of thousands, and each message takes time


@dataclasses.dataclass(frozen=True)
class Fault:
    """One error in a transcript.

    Attributes:
      where: its place, such as "twin.objects[2].box".
      message: the expected and the actual value.
    """

    where: str
    message: str


class TooManyFaultsError(Exception):
    """A part of a transcript has more than MAX_FAULTS faults; the reader stops there."""


class Faults(list[Fault]):
    """The faults of one part. After MAX_FAULTS of them it notes that there are more, and raises TooManyFaultsError."""

    def __init__(self, part: str):
        super().__init__()
        self._part = part

    def append(self, fault: Fault) -> None:
        """Notes a fault. Raises TooManyFaultsError if there are MAX_FAULTS already."""
        if len(self) == MAX_FAULTS:
            super().append(Fault(self._part, f"expected no faults, got more than {MAX_FAULTS}; the rest was not read"))
            raise TooManyFaultsError
        super().append(fault)
