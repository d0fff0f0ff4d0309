"""The head: the newest samples, in memory, and those who write them."""
