"""Where readings come from: the NVML driver, its simulator, a recording."""
