"""Image quality metrics behind one protocol."""
