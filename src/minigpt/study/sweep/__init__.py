"""A matrix of runs, or a search among them: its file, its record, and the engines that train its cells."""
