"""When things run: the jobs (`jobs`), and bringing a lake up to its newest day (`bootstrap`)."""
