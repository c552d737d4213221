"""The join of the two streams: what a run, or any interval, cost in joules and per token."""

from telemetry.join.baselines import BASELINE, power_by_second
from telemetry.join.boards import Boards, load_boards
from telemetry.join.report import listing, report, work_out
from telemetry.join.requests import SHORT
from telemetry.join.results import How
from telemetry.join.traces import board_of
from telemetry.join.window import window

__all__ = [
    "BASELINE",
    "SHORT",
    "Boards",
    "How",
    "board_of",
    "listing",
    "load_boards",
    "power_by_second",
    "report",
    "window",
    "work_out",
]
