"""GPUs that are not there: a described machine behind the functions of pynvml."""
