"""What a run will need, before it is started: memory, time and disk in closed form. Nothing here needs torch."""
