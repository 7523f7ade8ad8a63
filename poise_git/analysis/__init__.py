"""Phase III: turn runs into evidence, and separate effects from noise."""
