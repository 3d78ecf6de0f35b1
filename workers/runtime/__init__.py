"""The only code that imports TensorFlow or Keras, and only inside functions that need them.

``KerasRuntime`` is what the rest sees, through the protocols of ``workers.inference.ports``.
"""
