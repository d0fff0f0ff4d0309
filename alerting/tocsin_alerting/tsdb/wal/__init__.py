"""The write-ahead log: what the head holds, so that a new process can hold it again."""
