"""A reverse proxy before an OpenAI-compatible server that records what passes through it."""

from telemetry.proxy.framing import Upstream
from telemetry.proxy.server import listen, serve

__all__ = ["Upstream", "listen", "serve"]
