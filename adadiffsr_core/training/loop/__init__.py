"""A training run, whatever the task: steps, state, history."""
