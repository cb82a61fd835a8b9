"""What `launchers/` needs beyond a few lines of shell. Starts nothing, and imports neither torch nor deepspeed."""
