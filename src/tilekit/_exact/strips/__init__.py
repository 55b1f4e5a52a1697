"""One function over several ranks: each makes its part of every array, and borders are exchanged."""
