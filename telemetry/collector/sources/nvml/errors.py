"""NVML's error codes, by what follows from them."""

import pynvml

LOST = frozenset(
    (
        pynvml.NVML_ERROR_GPU_IS_LOST,
        pynvml.NVML_ERROR_RESET_REQUIRED,
        pynvml.NVML_ERROR_UNINITIALIZED,
        pynvml.NVML_ERROR_DRIVER_NOT_LOADED,
        pynvml.NVML_ERROR_LIB_RM_VERSION_MISMATCH,
        pynvml.NVML_ERROR_NOT_FOUND,
    )
)
NEVER = frozenset(
    (
        pynvml.NVML_ERROR_NOT_SUPPORTED,
        pynvml.NVML_ERROR_FUNCTION_NOT_FOUND,
        pynvml.NVML_ERROR_ARGUMENT_VERSION_MISMATCH,
    )
)
# A field or scope that a driver does not know, or keeps from this user.
UNKNOWN_FIELD = NEVER | {pynvml.NVML_ERROR_INVALID_ARGUMENT, pynvml.NVML_ERROR_NO_PERMISSION}
DRIVER_GONE = frozenset(
    (
        pynvml.NVML_ERROR_UNINITIALIZED,
        pynvml.NVML_ERROR_DRIVER_NOT_LOADED,
        pynvml.NVML_ERROR_LIB_RM_VERSION_MISMATCH,
    )
)
_REASONS = {
    pynvml.NVML_ERROR_INVALID_ARGUMENT: "invalid_argument",
    pynvml.NVML_ERROR_NOT_SUPPORTED: "not_supported",
    pynvml.NVML_ERROR_NO_PERMISSION: "no_permission",
    pynvml.NVML_ERROR_TIMEOUT: "timeout",
    pynvml.NVML_ERROR_FUNCTION_NOT_FOUND: "function_not_found",
    pynvml.NVML_ERROR_ARGUMENT_VERSION_MISMATCH: "version_mismatch",
    pynvml.NVML_ERROR_NO_DATA: "no_data",
    pynvml.NVML_ERROR_UNKNOWN: "unknown",
}
DOCTOR = " `telemetry doctor` shows what can be measured here."
NO_DRIVER = {
    pynvml.NVML_ERROR_LIBRARY_NOT_FOUND: (
        "The NVIDIA driver library libnvidia-ml.so.1 cannot be loaded, so there is no driver here or this "
        "container does not see it. Install the driver, or start the container with its GPUs."
    ),
    pynvml.NVML_ERROR_DRIVER_NOT_LOADED: (
        "The NVIDIA driver is installed but its kernel module is not loaded. Load it (modprobe nvidia)."
    ),
    pynvml.NVML_ERROR_NO_PERMISSION: (
        "The NVIDIA driver refuses this user. Ask for access to the /dev/nvidia* devices."
    ),
    pynvml.NVML_ERROR_LIB_RM_VERSION_MISMATCH: (
        "The NVIDIA library and kernel module are of different versions, as after an update without a "
        "restart. Reload the module or restart the machine."
    ),
}


def reason(code: int) -> str:
    """Return the reason code of a missing value."""
    return _REASONS.get(code, f"nvml_{code}")
