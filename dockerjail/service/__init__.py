"""Who runs: the daemon, its control socket and what it can tell about itself."""
