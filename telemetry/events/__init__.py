"""Events from any program, through a Unix socket: docs/events.md."""

from telemetry.events.listener import Listener, SharedRecording
from telemetry.events.place import ask, bound

__all__ = ["Listener", "SharedRecording", "ask", "bound"]
