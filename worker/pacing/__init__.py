"""Lanes, buckets and the documented rates of each kind of sender."""
