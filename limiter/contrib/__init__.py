"""Adapters for task queues of others: `limiter.contrib.celery` and `limiter.contrib.taskiq`.

Each imports its package, which is an extra; nothing else of the limiter imports them.
"""
