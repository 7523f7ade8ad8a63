"""The recipe under evolution: `algorithm.py` is the candidate, `rollouts.py` its fixed neighbour."""
