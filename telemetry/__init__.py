"""What a token costs in joules: GPU energy beside LLM inference, with bounds."""
