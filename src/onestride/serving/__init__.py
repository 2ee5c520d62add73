"""A policy served over a websocket in openpi's protocol, and a client of it. No torch where an engine decides."""
