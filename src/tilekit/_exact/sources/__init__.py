"""Streams over inputs that are read as they come: their length is known when they end."""
