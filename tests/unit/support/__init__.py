"""The test support itself, tested."""
