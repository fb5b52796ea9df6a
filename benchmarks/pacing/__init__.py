"""Is the rate held, used and shared? Real worker processes, a real server, a receiving server that stamps arrivals."""
