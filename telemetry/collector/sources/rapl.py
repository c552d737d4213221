"""CPU packages and their memory through RAPL, the CPU's own energy counters, which Linux shows as powercap files."""

import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from telemetry.clock import Clock, boot_key
from telemetry.errors import SourceLost, SourceUnavailable
from telemetry.model import Boundary, Device, Reading, Sensors

ROOT = Path("/sys/class/powercap")
MOST_W = 1_000  # no package draws this, nor its memory: what rises faster was not counted, but set
LATE_NS = 10_000_000  # updates come each millisecond or so; one may be late


@dataclass(frozen=True, slots=True, kw_only=True)
class Zone:
    """One counter. label: `package-0`, `package-0-dram`, the same at every start."""

    path: Path
    label: str
    boundary: Boundary


def open_rapl(root: str, clock: Clock) -> list["RaplSource"]:
    """Return an open source for each CPU package, and for its memory where that is counted.

    root: the folder with the `intel-rapl:N` zones, which AMD's CPUs have too; "" for this kernel's own.
    Raises SourceUnavailable with the cause when there is none, or it may not be read.
    """
    folder = Path(root) if root else ROOT
    try:
        sources = [RaplSource(folder, zone, index, clock) for index, zone in enumerate(find_zones(folder))]
    except PermissionError as error:
        raise SourceUnavailable(
            f"{error.filename} is closed to this user: Linux keeps the CPU's energy for root (CVE-2020-8694). "
            f"Run as root, or let root open it until the next boot: chmod o+r {folder}/intel-rapl:*/energy_uj "
            f"{folder}/intel-rapl:*/intel-rapl:*/energy_uj. docs/measurement.md says how it stays open, and the risk."
        ) from error
    except (OSError, ValueError) as error:
        raise SourceUnavailable(f"The CPU's energy counters in {folder} cannot be read: {error}.") from error
    if not sources:
        raise SourceUnavailable(
            f"{folder} shows no CPU package. Virtual machines have no such counters, and containers hide them "
            "unless the host's powercap folder is mounted into them (--source rapl:FOLDER). On a machine of your "
            "own, root loads them with `modprobe intel_rapl_msr`."
        )
    return sources


def find_zones(folder: Path) -> Iterator[Zone]:
    """Yield each package's zone, and its memory's.

    What lies inside a package (`core`, `uncore`) is in its energy already, and `psys`, the platform, holds packages
    in turn: neither is a device. `intel-rapl-mmio` counts the packages a second time.
    """
    for path in sorted(folder.glob("intel-rapl:*"), key=lambda zone: (len(zone.name), zone.name)):
        package = _name(path)
        if not package.startswith("package-"):
            continue
        yield Zone(path=path, label=package, boundary="cpu-package")
        for inner in path.glob("intel-rapl:*"):
            if _name(inner) == "dram":
                yield Zone(path=inner, label=f"{package}-dram", boundary="dram")


def rise_uj(before_uj: int, now_uj: int, *, range_uj: int, elapsed_ns: int) -> int | None:
    """Return by how much a counter rose that begins again after `range_uj`, µJ; None where nobody can say.

    Nobody can where it may have begun again more than once since, or rose by more than any CPU draws: then it
    restarted. A restart soon after another is taken for a rise, if it is small enough to be one.
    """
    most_uj = MOST_W * (elapsed_ns + LATE_NS) // 1_000
    rose_uj = (now_uj - before_uj) % range_uj
    return rose_uj if rose_uj <= most_uj < range_uj else None


class RaplSource:
    """One zone. Its energy counts from the first reading on, across the counter's wraps.

    Not from the counter's own start: how often it wrapped while nobody looked cannot be known. So a total that
    follows another's begins below it, which is seen as the restart that it is.
    """

    def __init__(self, folder: Path, zone: Zone, index: int, clock: Clock) -> None:
        """Open a zone. Raises OSError or ValueError where it cannot be read."""
        self._folder = folder
        self._zone = zone
        self._clock = clock
        self._range_uj = int((zone.path / "max_energy_range_uj").read_bytes())
        if self._range_uj <= 0:
            raise ValueError(f"{zone.path} has no range")
        _count(zone)
        self._last: tuple[int, int] | None = None  # when it was read, ns, and what, µJ
        self._total_uj = 0
        simulated = not _is_sysfs(zone.path)
        host = hashlib.sha256((str(folder) if simulated else boot_key().machine).encode()).hexdigest()[:12]
        self._device = Device(
            uid=f"CPU-{host}-{zone.label}",
            name=f"{_cpu_model()} {zone.label}",
            index=index,
            boundary=zone.boundary,
            simulated=simulated,
            has_counter=True,
            kind="cpu" if zone.boundary == "cpu-package" else "dram",
        )

    @property
    def device(self) -> Device:
        """The package or its memory. Files that no kernel made are simulated."""
        return self._device

    def read(self) -> Reading:
        """Read the counter. Raises SourceLost."""
        before_ns = self._clock.now_ns()
        try:
            count_uj = _count(self._zone)
        except (OSError, ValueError) as error:
            raise SourceLost(f"{self._device.name} cannot be read: {error}.") from error
        after_ns = self._clock.now_ns()
        rose_uj = None
        if self._last is not None:
            last_ns, last_uj = self._last
            rose_uj = rise_uj(last_uj, count_uj, range_uj=self._range_uj, elapsed_ns=after_ns - last_ns)
        self._total_uj = 0 if rose_uj is None else self._total_uj + rose_uj
        self._last = before_ns, count_uj
        return Reading(
            t_ns=(before_ns + after_ns) // 2,
            latency_ns=after_ns - before_ns,
            energy_mj=self._total_uj // 1_000,
        )

    def read_sensors(self, *, processes: bool) -> Sensors:
        """Return nothing: a zone tells its energy alone."""
        return Sensors()

    def reopen(self) -> None:
        """Find the zone by its name again. Raises SourceLost while it is not back."""
        try:
            self._zone = next(zone for zone in find_zones(self._folder) if zone.label == self._zone.label)
        except (StopIteration, OSError) as error:
            raise SourceLost(f"{self._device.name} is not back yet.") from error

    def close(self) -> None:
        """Do nothing: no file stays open."""


def _count(zone: Zone) -> int:
    return int((zone.path / "energy_uj").read_bytes())


def _name(zone: Path) -> str:
    """Return what a zone calls itself; "" where that is hidden."""
    name = zone / "name"
    return name.read_text(encoding="utf-8").strip() if name.is_file() else ""


def _is_sysfs(path: Path) -> bool:
    device = path.stat().st_dev
    number = f"{os.major(device)}:{os.minor(device)}"
    mounts = Path("/proc/self/mountinfo").read_text(encoding="utf-8").splitlines()
    return any(mount.split()[2] == number and " - sysfs " in mount for mount in mounts)


def _cpu_model() -> str:
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
        what, _, value = line.partition(":")
        if what.strip() == "model name":
            return value.strip()
    return "CPU"
