"""Any OpenAI-compatible server as a runner: its streams over HTTP, with chunks told apart from tokens."""

from telemetry.runners.openai.arrivals import Arrival, arrivals_s
from telemetry.runners.openai.asking import Api
from telemetry.runners.openai.opening import open_openai
from telemetry.runners.openai.runner import Load, OpenAIRunner

__all__ = ["Api", "Arrival", "Load", "OpenAIRunner", "arrivals_s", "open_openai"]
