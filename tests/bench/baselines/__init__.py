"""What a good engineer would write without Forebay: plain Celery, one task per item.

It does the same durable work for each item as Forebay does for each job: the row is set to
running and committed, the digit is decoded and scored by the same model through a traced
function, the answer is put into S3, the row is set to done and committed, and only then the
message is acknowledged. Tuned where tuning is fair: late acks on a quorum queue, no result
backend, a generous prefetch, one open database connection and one S3 client per executor, no
events, no gossip. ``run`` checks what was written before it believes a rate.
"""
