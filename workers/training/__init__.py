"""Training as a job: claimed and looked after in a device process, run in a process of its own.

::

    device process                          trainer process (TensorFlow is imported here)
    side ─▶ owner ──spawns, watches──▶      trainer: prepare ▶ course ▶ evaluate ▶ finish
              │                                 data/ (numpy, Arrow)   learner (workers.runtime)
              └── ends the job                  journal ─▶ SQL, checkpoints ─▶ objects
"""
