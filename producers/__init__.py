"""Put work in: what other apps import."""
