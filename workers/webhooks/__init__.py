"""How webhooks get to their receivers.

==============  ==========================================================================
``message``     what is sent: a thin payload, signed
``resolver``    a host's addresses, each of them looked at by the guard
``connection``  one connection to one checked address, its replies bounded in size and time
``client``      connections that are used again; no redirects, no proxy, no cookies
``verdict``     what an answer, or none, means for a delivery
``courier``     many deliveries at once in one thread, a bounded number for each endpoint
``places``      how many deliveries of each endpoint and tenant are claimed at a time
``holdings``    what is claimed, and who answered lately
==============  ==========================================================================

The duty ``workers.keeper.webhook_delivery`` claims deliveries in SQL, hands them over, and
records what came of them.
"""
