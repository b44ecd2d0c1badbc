"""What is trained: losses and measures of each network."""
