"""What does the work: Celery consumer, batcher, runtime, keeper."""
