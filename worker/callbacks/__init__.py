"""Call apps: what they are told (letters), how it gets there (post), and when (caller)."""
