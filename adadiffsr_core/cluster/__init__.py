"""Work that is shared among the machines of a Ray cluster; the extra `adadiffsr[cluster]`."""
