"""A tally that only counts."""

from __future__ import annotations


class Count:
    def __init__(self) -> None:
        self.tiles = self.read = 0

    def add(self, tiles: int, read: int) -> None:
        self.tiles += tiles
        self.read += read
