"""Run a grid of methods and seeds, here or on a cluster."""
