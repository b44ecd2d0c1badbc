"""A photograph: its value, its files, its colours, its size."""
