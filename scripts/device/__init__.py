"""Training on a machine that is lent for minutes: what travels there, what is run there, and what comes back."""
