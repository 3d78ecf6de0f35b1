"""The words every floor shares. Pure values and pure decisions; standard library only.

Nothing here opens a file, a socket or a clock: what depends on time or chance receives it.
"""
