"""Datasets out of a finished OUT: what is chosen and cut, how it is packed, and the journal of its shards."""
