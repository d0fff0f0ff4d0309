"""What all endpoints share: the server, the guard, bodies, the envelope."""
