"""Files and disks: files are written whole, locked, and checked before they are trusted.

Here: atomic files and their hashes, locks, free space, the owner of a file, and JSON from any source. Not here: the
content of any of our files. Start with `files.py`.
"""
