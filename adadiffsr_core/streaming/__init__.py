"""Pictures larger than memory: read, enlarged, sampled, decoded and written a band of rows at a time."""
