"""What only the probe asks a driver: its ring of power samples, and what its time stamps date."""

from dataclasses import dataclass

import pynvml

from telemetry.collector.sources.nvml.features import INSTANT


@dataclass(frozen=True, slots=True)
class NvmlDetails:
    """The GPU of that UUID. A source on it has to be open: that is what keeps the driver initialised."""

    uuid: str

    def ring_us(self) -> list[int] | None:
        """Return when each power sample that the driver keeps was taken, µs since 1970; None where it keeps none."""
        for kind in (pynvml.NVML_TOTAL_POWER_SAMPLES, pynvml.NVML_MODULE_POWER_SAMPLES):
            try:
                _, samples = pynvml.nvmlDeviceGetSamples(self._handle(), kind, 0)
            except pynvml.NVMLError:  # NotSupported, and NotFound where none was taken yet
                continue
            return [int(sample.timeStamp) for sample in samples]
        return None

    def stamp_us(self) -> int | None:
        """Return the driver's stamp on INSTANT, µs since 1970; None where it does not answer now."""
        for scope in (pynvml.NVML_POWER_SCOPE_GPU, pynvml.NVML_POWER_SCOPE_MODULE):
            try:
                (value,) = pynvml.nvmlDeviceGetFieldValues(self._handle(), [(INSTANT, scope)])
            except pynvml.NVMLError:
                continue
            if value.nvmlReturn == pynvml.NVML_SUCCESS:
                return int(value.timestamp)
        return None

    def _handle(self) -> object:
        handle: object = pynvml.nvmlDeviceGetHandleByUUID(self.uuid)
        return handle
