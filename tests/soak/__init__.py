"""The long trial: workers as processes on one store, every fault, SIGKILL; judged by what the simulator saw.

`python -m tests.soak --events 100000 --workers 3` (make soak). The world and what happens in it are those of
tests/evening.py, what has to hold is tests/invariants.py; here are processes, faults of store and queue, and the account.
"""
