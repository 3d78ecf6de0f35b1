"""What outlives a process, and the words for it: records, database, objects, queue."""
