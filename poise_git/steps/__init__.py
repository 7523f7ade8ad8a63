"""The steps of the loop, in its order. Each is also the body of the command with the same name.

    select parents -> propose N, screen -> implement -> verify -> train, evaluate -> reflect

`translate` turns a directive into an objective, `distill` turns reflections into principles, `adopt` adds candidates
that people have committed with plain git, `resume` finds the unfinished work of an earlier call, and `confirm` compares
a winner with the root on fresh seeds. A step takes a `Session` and archives its outcome before it returns.
"""
