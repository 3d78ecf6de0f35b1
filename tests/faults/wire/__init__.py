"""What is said on the wires between our processes and the services, in words a fault can wait for.

No hook in the product says "now": each connection is read by a decoder of its protocol, and a
fault is sprung between what a service did and the moment its client hears of it.
"""
