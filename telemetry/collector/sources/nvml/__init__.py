"""GPUs through NVML, the driver's library: the only place that imports pynvml.

It calls pynvml's public functions, and the one that is called at every poll by pynvml's own look-up of it, so
whatever pynvml has loaded serves: the driver's own library, the simulated one, or somebody else's stand-in.
"""

from telemetry.collector.sources.nvml.driver import DriverLibrary, Installation, install
from telemetry.collector.sources.nvml.opening import open_nvml
from telemetry.collector.sources.nvml.source import NvmlSource

__all__ = ["DriverLibrary", "Installation", "NvmlSource", "install", "open_nvml"]
