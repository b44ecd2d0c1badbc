"""Sections 3.3 and 3.4: every region with the steps that it needs; knows torch and gain, and no network."""
