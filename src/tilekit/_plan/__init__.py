"""
The left half of tilekit: integers alone, no array library. `tilekit._run` reads what is made here.

docs/architecture.md has a line for each module.
"""
