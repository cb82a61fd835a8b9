"""Files and disks: written whole, locked, measured, and checked before they are trusted.

Here: atomic files and their hashes, locks, free space, who owns a file, and JSON from anybody. Not here: what stands
in any of our files. Start with `files.py`.
"""
