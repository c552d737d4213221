"""Stream two: prompts in, timed tokens out. Engines are imported only by the functions that open them."""

from telemetry.runners.base import Prompt, RequestSink, Runner, RunnerInfo
from telemetry.runners.hf_transformers import Padding, TransformersRunner, open_transformers
from telemetry.runners.llama_cpp import EngineCounters, LlamaRunner, open_llama
from telemetry.runners.openai import Arrival, Load, OpenAIRunner, open_openai
from telemetry.runners.prompts import PromptSet, parse_prompts, prompt_set, read_prompts
from telemetry.runners.smollm2 import find_smollm2
from telemetry.runners.stand_in import StandInRunner
from telemetry.runners.thread import RunnerThread

__all__ = [
    "Arrival",
    "EngineCounters",
    "LlamaRunner",
    "Load",
    "OpenAIRunner",
    "Padding",
    "Prompt",
    "PromptSet",
    "RequestSink",
    "Runner",
    "RunnerInfo",
    "RunnerThread",
    "StandInRunner",
    "TransformersRunner",
    "find_smollm2",
    "open_llama",
    "open_openai",
    "open_transformers",
    "parse_prompts",
    "prompt_set",
    "read_prompts",
]
