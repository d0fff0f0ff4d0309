"""What an expression means: numpy arithmetic on the columns of the store, all steps at once."""
