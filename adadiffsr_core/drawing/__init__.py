"""Everything that a person looks at: maps, curves, charts and comparisons."""
