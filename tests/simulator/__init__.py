"""The product's own code against a virtual clock and a broker, a database and an object store that
lose, double, delay and reorder: one seed, one history. See ``world``."""
