"""Training on TensorFlow: networks, steps, state, and the archive that comes of it.

``opening.open_learning`` is the door; what it gives keeps to ``workers.training.ports``. As in
the rest of ``workers.runtime``, TensorFlow is imported only when somebody calls.
"""
