"""Files to networks and back: checkpoints, models that are ready to run, and what is put into them."""
