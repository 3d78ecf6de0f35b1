"""The queue: what a message says, where it travels, and how it is sent so that its fate is known.

A message is only a wake-up: the truth is in SQL. Nothing here reads a job.
"""
