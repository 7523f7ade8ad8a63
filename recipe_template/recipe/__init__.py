"""The recipe under evolution: `algorithm.py` is the candidate, `rollouts.py` the fixed module beside it."""
