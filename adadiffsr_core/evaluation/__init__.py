"""Measuring methods on folders of images, and the tables of it."""
