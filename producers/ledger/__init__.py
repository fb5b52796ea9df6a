"""The ledger: what both sides share. Keys, records, states, and the Lua scripts with their Python face.

The ledger is the truth. Records live in Redis and are changed by scripts alone; a Dramatiq message carries ids only and
may be lost, late or doubled. Knows nothing of Telnyx or HTTP.
"""
