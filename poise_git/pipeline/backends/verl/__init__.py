"""The backend `verl`: trains candidates with verl, evaluates them with vLLM."""
