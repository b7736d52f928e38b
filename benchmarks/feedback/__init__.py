"""What the provider says, and what the fleet makes of it: measured with real processes over HTTP."""
