"""Stream two: prompts in, timed tokens out. Engines are imported only by the functions that open them."""

from telemetry.runners.base import Prompt, RequestSink, Runner, RunnerInfo
from telemetry.runners.llama_cpp import EngineCounters, LlamaRunner, open_llama
from telemetry.runners.openai import Arrival, Load, OpenAIRunner, open_openai
from telemetry.runners.prompts import read_prompts
from telemetry.runners.smollm2 import find_smollm2
from telemetry.runners.stand_in import StandInRunner
from telemetry.runners.thread import RunnerThread

__all__ = [
    "Arrival",
    "EngineCounters",
    "LlamaRunner",
    "Load",
    "OpenAIRunner",
    "Prompt",
    "RequestSink",
    "Runner",
    "RunnerInfo",
    "RunnerThread",
    "StandInRunner",
    "find_smollm2",
    "open_llama",
    "open_openai",
    "read_prompts",
]
