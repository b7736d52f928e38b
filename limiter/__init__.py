"""One fair line in front of an LLM quota, for a whole fleet of processes."""
