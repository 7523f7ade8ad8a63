"""The command line: one small module per command. Each parses its arguments, calls the package and prints."""
