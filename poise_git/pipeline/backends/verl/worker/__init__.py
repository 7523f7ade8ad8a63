"""Modules that only verl's own processes load, by verl's configuration keys and environment variables."""
