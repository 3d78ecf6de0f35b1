"""From a claimed job's payload to tensors, and from tensors to its answer."""
