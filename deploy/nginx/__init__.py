"""The front door's configuration, the same for one machine and for production. Starts nothing."""
