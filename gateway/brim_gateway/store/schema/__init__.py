"""Numbered SQL files, applied in order. A file that was released is never changed."""
