"""What is learnt from: photographs, pairs of them, and where pairs are kept."""
