"""Prompts: out of files, of drawn lengths, or as a recorded trace has them."""

from telemetry.runners.prompts.drafts import Draft
from telemetry.runners.prompts.files import read_prompts
from telemetry.runners.prompts.spec import PromptSet, parse_prompts, prompt_set

__all__ = ["Draft", "PromptSet", "parse_prompts", "prompt_set", "read_prompts"]
