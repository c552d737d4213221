"""The join of the two streams: what a run, or any interval, cost in joules and per token."""

from telemetry.join.baselines import BASELINE
from telemetry.join.boards import Boards, load_boards
from telemetry.join.report import listing, report
from telemetry.join.window import window

__all__ = ["BASELINE", "Boards", "listing", "load_boards", "report", "window"]
