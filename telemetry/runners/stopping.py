"""Where an answer ends because of what it says."""

from collections.abc import Sequence


class StopWatch:
    """Collects the text of one answer, piece by piece, until it holds a stop string.

    The pieces are UTF-8 bytes, for a token may end within a character and a stop string within a token.
    What a piece costs depends on its length and the stop strings', not on the text before it.
    """

    def __init__(self, stops: Sequence[str] = ()) -> None:
        self._stops = [stop.encode() for stop in stops]
        self._overlap = max((len(stop) - 1 for stop in self._stops), default=0)
        self._text = bytearray()

    def feed(self, piece: bytes) -> bool:
        """Add what one token says, and return whether a stop string is complete; then the text is cut before it."""
        begin = max(0, len(self._text) - self._overlap)
        self._text += piece
        found = [place for stop in self._stops if (place := self._text.find(stop, begin)) >= 0]
        if found:
            del self._text[min(found) :]
        return bool(found)

    @property
    def text(self) -> str:
        """What has been said; an unfinished character shows as U+FFFD."""
        return self._text.decode(errors="replace")
