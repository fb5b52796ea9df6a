"""A scripted day on this machine alone: real processes, a real server, a sandbox in Telnyx's place."""
