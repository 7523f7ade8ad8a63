"""The boundary: a candidate is a process that receives tensors and returns tensors, and nothing else.

    trusted side                                   candidate's side
    trainer, checks, verl's workers                host (one sandbox) ── forks ── one process per connection
      door.Door ────────── open, end ────────────▶ server.serve
      process.CandidateProcess ─── frames ───────▶ answering.answer, one call at a time
      algorithm.GuardedAlgorithm (validates)

`hosting.host` starts the host from the calling process. `in_process.InProcess` works without a wall, for `--trust`.
"""

from poise_git.pipeline.boundary.failures import CandidateFailed

# Do not import torch here, because the command line imports this package at every start.
__all__ = ["CandidateFailed"]
