"""The built-in load: `python -m telemetry.probe.busy` multiplies matrices when it is told to.

The first GPU that CUDA shows is the one. It says `ready`, reads lines `FROM_NS TO_NS` of CLOCK_MONOTONIC, and
ends with its input.
"""

import importlib
import sys
import time
from collections.abc import Callable

SIZE = 3072  # a product of some tenths of a ms on a data-centre GPU: edges of a square wave stay sharp
_AWAKE_NS = 300_000  # the last stretch before an edge is waited for awake


def make_product() -> Callable[[], None] | None:
    """Return a function that multiplies two matrices and waits for the result; None without torch and CuPy."""
    for module, make in (("torch", _torch_product), ("cupy", _cupy_product)):
        try:
            importlib.import_module(module)
        except ImportError:
            continue
        return make()
    return None


def _torch_product() -> Callable[[], None]:
    import torch

    matrix = torch.randn(SIZE, SIZE, device="cuda", dtype=torch.bfloat16)

    def product() -> None:
        _ = matrix @ matrix
        torch.cuda.synchronize()

    return product


def _cupy_product() -> Callable[[], None]:
    import cupy  # type: ignore[import-not-found]

    matrix = cupy.random.random((SIZE, SIZE), dtype=cupy.float32).astype(cupy.float16)

    def product() -> None:
        _ = matrix @ matrix
        cupy.cuda.get_current_stream().synchronize()

    return product


def sleep_until(t_ns: int) -> None:
    """Return at `t_ns`, closely."""
    while (left_ns := t_ns - time.monotonic_ns()) > 0:
        time.sleep(max(left_ns - _AWAKE_NS, 0) / 1e9)


def main() -> int:
    """Be ready, then do as each line says."""
    product = make_product()
    if product is None:
        print("neither torch nor CuPy is installed", flush=True)  # noqa: T201  the other end of the pipe reads it
        return 1
    for _ in range(20):
        product()
    print("ready", flush=True)  # noqa: T201
    for line in sys.stdin:
        from_ns, to_ns = map(int, line.split())
        sleep_until(from_ns)
        while time.monotonic_ns() < to_ns:
            product()
    return 0


if __name__ == "__main__":
    sys.exit(main())
