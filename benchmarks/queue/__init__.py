"""What the queue promises, measured: real workers, a real Redis, a mock provider over HTTP."""
