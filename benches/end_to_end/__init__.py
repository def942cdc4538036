"""Benchmarks from end to end: a test server, this program and its peers as processes of their own. Started by scripts/bench."""
