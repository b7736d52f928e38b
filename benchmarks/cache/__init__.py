"""What the response cache saves, and what it costs; on real processes, a real Redis, and HTTP."""
