"""Thin Dramatiq actors: load, decide, call, record."""
