"""The product at work on real data, for people to run: ``python -m tests.show.flights``."""
