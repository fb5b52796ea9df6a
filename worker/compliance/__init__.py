"""Opt-outs, keywords, validity."""
