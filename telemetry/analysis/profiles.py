"""What is known of a board's power sensor before anything was read from it."""

from dataclasses import dataclass

MS = 1_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class SensorProfile:
    """How a board's sensor averages. The defaults are those of A100, H100 and H200.

    instant_window_ns, average_window_ns, legacy_window_ns: the stretch before its publish that a reading of that
    signal is the mean of.  counter_window_ns: the same for a counter that adds up such readings; None for one
    that misses no time.  lag_ns: time constant of a first-order lag in front of everything.
    average_covers_all: whether AVERAGE is known to be the mean of all its second, and not of the parts INSTANT
    looks at.
    """

    instant_window_ns: int = 25 * MS
    average_window_ns: int = 1_000 * MS
    legacy_window_ns: int = 1_000 * MS
    counter_window_ns: int | None = None
    lag_ns: int = 0
    average_covers_all: bool = False

    def window_ns(self, signal: str) -> int:
        """Return the averaging window of `instant`, `legacy`, or anything else, which is taken for an average."""
        if signal.endswith("instant"):
            return self.instant_window_ns
        return self.legacy_window_ns if signal == "legacy" else self.average_window_ns


_V100 = SensorProfile(instant_window_ns=10 * MS, legacy_window_ns=10 * MS)
_TURING = SensorProfile(instant_window_ns=100 * MS, legacy_window_ns=100 * MS)
_GA100 = SensorProfile(legacy_window_ns=25 * MS)  # newer than Turing, but its legacy call is still INSTANT
_AMPERE = SensorProfile(instant_window_ns=100 * MS)
_GRACE = SensorProfile(instant_window_ns=20 * MS)
# The first part of a name that fits decides: RTX A3000 is no A30, GH200 no H200, A100 no A10.
_BY_NAME = (
    (("Ada",), SensorProfile()),
    (("RTX A", "GeForce RTX 30"), _AMPERE),
    (("V100",), _V100),
    (("Tesla T4", "GeForce RTX 20", "TITAN RTX", "Quadro RTX"), _TURING),
    (("A100", "A800", "A30"), _GA100),
    (("A40", "A10", "A16"), _AMPERE),
    (("GH200",), _GRACE),
)


def sensor_profile(name: str) -> SensorProfile:
    """Return the profile of a device by the name its driver gives, the defaults where nothing is published.

    From outside, by Yang and others (SC24, arXiv 2312.02741). What is not published of Ada and Blackwell is
    taken to be as on Hopper, the more suspicious assumption: a sensor that looks at all time only loses by it.
    """
    return next((profile for parts, profile in _BY_NAME if any(part in name for part in parts)), SensorProfile())
