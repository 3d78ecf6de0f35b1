"""The pure half of the queue."""
