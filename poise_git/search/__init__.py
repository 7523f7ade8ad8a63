"""Phase I: select parents from an archive, build their contexts, and screen proposals."""
