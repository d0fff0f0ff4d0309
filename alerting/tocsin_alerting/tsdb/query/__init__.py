"""What a selector selects, from the head and from blocks."""
