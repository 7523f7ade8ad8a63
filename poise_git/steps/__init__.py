"""The steps of the loop, in its order; each is the body of the command of the same name too.

    select parents -> propose N, screen -> implement -> verify -> train, evaluate -> reflect

`translate` makes an objective of a directive, `distill` makes principles of reflections, `adopt` takes in what people
have committed by plain git, `resume` finds what an earlier call has left to do, `confirm` compares a winner with the
root on fresh seeds. A step takes a `Session` and archives its outcome before it returns.
"""
