"""The way of a track, from manifest row to index row. Ray is in flow.py only, storage in storage/ only."""
