"""Everything that touches a network: HTTP, the TUF repository, the trust server, the swarm."""
