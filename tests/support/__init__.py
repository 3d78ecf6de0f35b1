"""What tests stand on: real private services, a faulty network, waiting with deadlines."""
