"""DeepSpeed compiles some of its operators when they are first used: who does, and who waits."""
