"""The numbers of NVML's C interface that the simulated driver speaks (nvml.h, API 13)."""

SUCCESS = 0
UNINITIALIZED = 1
INVALID_ARGUMENT = 2
NOT_SUPPORTED = 3
NO_PERMISSION = 4
NOT_FOUND = 6
INSUFFICIENT_SIZE = 7
DRIVER_NOT_LOADED = 9
TIMEOUT = 10
GPU_IS_LOST = 15
LIB_RM_VERSION_MISMATCH = 18
ARGUMENT_VERSION_MISMATCH = 25
UNKNOWN = 999

ERROR_STRINGS = {
    SUCCESS: b"Success",
    UNINITIALIZED: b"Uninitialized",
    INVALID_ARGUMENT: b"Invalid Argument",
    NOT_SUPPORTED: b"Not Supported",
    NO_PERMISSION: b"Insufficient Permissions",
    NOT_FOUND: b"Not Found",
    INSUFFICIENT_SIZE: b"Insufficient Size",
    DRIVER_NOT_LOADED: b"Driver Not Loaded",
    TIMEOUT: b"Timeout",
    GPU_IS_LOST: b"GPU is lost",
    LIB_RM_VERSION_MISMATCH: b"Driver/library version mismatch",
    ARGUMENT_VERSION_MISMATCH: b"Argument version mismatch",
    UNKNOWN: b"Unknown Error",
}

FIELD_POWER_CAP_NS = 74
FIELDS_NEVER_THROTTLED_NS = (76, 269, 270, 271)  # sync boost, SW thermal, HW thermal, power brake
FIELD_MEMORY_TEMPERATURE = 82
FIELDS_ENERGY = (83, 191)
FIELD_POWER_AVERAGE = 185
FIELD_POWER_INSTANT = 186

SCOPE_GPU, SCOPE_MODULE, SCOPE_MEMORY = 0, 1, 2
VALUE_UNSIGNED_INT, VALUE_UNSIGNED_LONG_LONG = 1, 3
SAMPLES_TOTAL_POWER, SAMPLES_MODULE_POWER = 0, 7
CLOCK_MEMORY = 2
BRAND_NVIDIA, BRAND_GEFORCE_RTX = 14, 15
MEMORY_V2 = 40 | 2 << 24  # the size of nvmlMemory_v2_t and its version
