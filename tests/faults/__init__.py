"""Faults, for real: the product in processes on RabbitMQ, PostgreSQL and S3, and what breaks it.

A fault (``fault``, ``catalogue``) submits jobs of two tenants, makes something go wrong while they
are under way, and proves that it met them. Every process of ours reaches every service by a proxy
of its own that understands the protocol (``wire``), so that a fault can strike between what a
service did and the moment its client hears of it; the product has no hooks for that. The callers
(``load``) write down what they sent and what was accepted before they do anything else.

When all jobs are terminal the run is dumped (``dump``) and an independent auditor, who imports
none of our code, compares the callers' book with the tables, the packs and the queues: nothing
lost, doubled, crossed or stuck. ``python -m tests.faults --runs 20`` (``make faults RUNS=20``)
prints the table; ``test_*.py`` here runs each fault once with shorter leases.
"""
