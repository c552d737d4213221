"""A driver library made by hand: every GPU answers exactly what the test has put there."""

import ctypes
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from threading import Event
from typing import Any

NOT_SUPPORTED, UINT, ULONG_LONG = 3, 1, 3
_FIRST_HANDLE = 0x1000
_ALWAYS = frozenset(
    f"nvmlDeviceGet{name}"
    for name in ("Count_v2", "FieldValues", "HandleByIndex_v2", "HandleByUUID", "Index", "Name", "UUID")
)
_UNION = ("dVal", "uiVal", "ulVal", "ullVal", "sllVal", "siVal", "usVal")


@dataclass
class Answer:
    """One field's value: NVML's return code, the type of the union and the number in it."""

    number: float = 0
    kind: int = UINT
    code: int = 0


@dataclass
class FakeGpu:
    """A GPU. `fields` by (field, scope); `plain` by function: a number to put into its reference."""

    uuid: str
    fields: dict[tuple[int, int], Answer] = field(default_factory=dict)
    plain: dict[str, int] = field(default_factory=dict)
    errors: dict[str, int] = field(default_factory=dict)  # by function, "" for all of them
    hangs: set[str] = field(default_factory=set)  # functions, "" for all, that return after `FakeDriver.awake`
    name: bytes = b"Fake"


class FakeDriver:
    """The C functions that an NvmlSource cannot do without, and those that `FakeGpu.plain` names."""

    def __init__(self, *gpus: FakeGpu) -> None:
        self.identity = self
        self.gpus = gpus
        self.init_code = 0
        self.init_hangs = False
        self.awake = Event()
        self.inits = 0
        self.alive = 0
        self.calls: Counter[str] = Counter()
        self.asked: list[list[tuple[int, int]]] = []
        self.on_call: Callable[[], None] = lambda: None

    def close(self) -> None:
        """Nothing is held."""

    def __getattr__(self, name: str) -> Any:
        if not name.startswith("nvml"):
            raise AttributeError(name)

        def function(*arguments: Any) -> int:
            self.calls[name] += 1
            self.on_call()
            return self._answer(name, *arguments)

        if name.startswith("nvmlDeviceGet") and not self._has(name):
            raise AttributeError(name)
        return function

    def _has(self, name: str) -> bool:
        return name in _ALWAYS or any(name in gpu.plain or name in gpu.errors for gpu in self.gpus)

    def _answer(self, name: str, *arguments: Any) -> int:
        if name == "nvmlInitWithFlags":
            if self.init_hangs:
                self.awake.wait()
            self.inits += not self.init_code
            self.alive += not self.init_code
            return self.init_code
        if not self.alive:
            return 1
        if name == "nvmlShutdown":
            self.alive -= 1
            return 0
        return self._answer_alive(name, *arguments)

    def _answer_alive(self, name: str, *arguments: Any) -> int:
        if name == "nvmlDeviceGetCount_v2":
            arguments[0]._obj.value = len(self.gpus)
            return 0
        if name == "nvmlSystemGetDriverVersion":
            arguments[0].value = b"1.2.3"
            return 0
        if name == "nvmlDeviceGetHandleByIndex_v2":
            return self._put_handle(arguments[0].value, arguments[1])
        if name == "nvmlDeviceGetHandleByUUID":
            uuids = [gpu.uuid.encode() for gpu in self.gpus]
            wanted = arguments[0].value
            return self._put_handle(uuids.index(wanted), arguments[1]) if wanted in uuids else 6
        index = (ctypes.cast(arguments[0], ctypes.c_void_p).value or 0) - _FIRST_HANDLE - 16 * self.inits
        if not 0 <= index < len(self.gpus):
            return 2  # a handle from before the driver was started again
        return self._of_gpu(self.gpus[index], index, name, *arguments[1:])

    def _of_gpu(self, gpu: FakeGpu, index: int, name: str, *arguments: Any) -> int:
        if gpu.hangs & {"", name}:
            self.awake.wait()
        if code := gpu.errors.get("") or gpu.errors.get(name):
            return code
        if name in ("nvmlDeviceGetName", "nvmlDeviceGetUUID"):
            arguments[0].value = gpu.uuid.encode() if name.endswith("UUID") else gpu.name
        elif name == "nvmlDeviceGetIndex":
            arguments[0]._obj.value = index
        elif name == "nvmlDeviceGetFieldValues":
            self._put_fields(gpu, arguments[0].value, arguments[1]._obj)
        elif name not in gpu.plain:
            return NOT_SUPPORTED
        else:
            arguments[-1]._obj.value = gpu.plain[name]
        return 0

    def _put_fields(self, gpu: FakeGpu, count: int, values: Any) -> None:
        self.asked.append([(values[i].fieldId, values[i].scopeId) for i in range(count)])
        for i in range(count):
            answer = gpu.fields.get((values[i].fieldId, values[i].scopeId), Answer(code=NOT_SUPPORTED))
            values[i].nvmlReturn = answer.code
            values[i].valueType = answer.kind
            if answer.kind < len(_UNION):
                setattr(values[i].value, _UNION[answer.kind], answer.number)

    def _put_handle(self, index: int, ref: Any) -> int:
        if "" in self.gpus[index].hangs:
            self.awake.wait()
        if code := self.gpus[index].errors.get(""):
            return code
        address = ctypes.c_void_p(_FIRST_HANDLE + 16 * self.inits + index)
        ctypes.memmove(ctypes.addressof(ref._obj), ctypes.addressof(address), ctypes.sizeof(address))
        return 0
