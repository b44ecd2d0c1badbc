"""What developers run from a checkout: `python -m scripts.<name>`."""
