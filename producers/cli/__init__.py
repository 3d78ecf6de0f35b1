"""A user's verbs on the command line. Speaks to the service through ``producers.client`` alone.

Modules here stay cheap to import: httpx, rich and the SDK are imported when a verb runs.
"""
