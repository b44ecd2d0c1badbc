"""Walks of a frozen model down its schedule, which the regressor learns from."""
