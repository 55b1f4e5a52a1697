"""Exact evaluation of any traced function within a memory budget: graph, ops and plan of integers, then arrays."""
