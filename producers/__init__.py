"""What asks for work: submission, relay, API, client and command."""
