"""A cluster and its networks that are none, for benchmarks of all the rest."""
