"""Runs on disk: their folders and locks, progress, provenance, and the table made from them."""
